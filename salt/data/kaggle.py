"""Download and upload through Kaggle's own command `kaggle`, with one clear line for each of its failures."""

import shutil
import subprocess
import sys
from pathlib import Path

COMPETITION = "tgs-salt-identification-challenge"
COMPETITION_PAGE = f"https://www.kaggle.com/c/{COMPETITION}"
RULES = f"{COMPETITION_PAGE}/rules"
TOKEN = "https://www.kaggle.com/settings"  # makes an account's API token
NO_TOKEN = ("401", "unauthorized", "could not find kaggle.json", "authenticate", "authentication required")
# The command ends with exit code 0 also after these.
FAILURES = ("Could not submit to competition", "Could not find competition", "Upload unsuccessful")


def download(folder: Path) -> None:
    """Fetch the competition's archive into a folder, and leave it zipped; raise ValueError that says what to do."""
    folder.mkdir(parents=True, exist_ok=True)
    call("competitions", "download", "-c", COMPETITION, "-p", str(folder))
    if not any(folder.glob("*.zip")):
        raise ValueError(f"kaggle reported success, but {folder} holds no archive; download it at {RULES}")


def upload(submission: Path, message: str) -> str:
    """Send a submission and return the command's answer; raise ValueError if Kaggle does not confirm it."""
    answer = call("competitions", "submit", "-c", COMPETITION, "-f", str(submission), "-m", message)
    if "successfully submitted" not in answer.lower():
        raise ValueError(f"kaggle did not confirm the upload of {submission}: {last_line(answer)}")
    return last_line(answer)


def find_command() -> str:
    """Return the path of the command; raise ValueError if it is missing."""
    beside = str(Path(sys.executable).parent)  # in a virtual environment that is not activated
    found = shutil.which("kaggle") or shutil.which("kaggle", path=beside)
    if found is None:
        install = "pip install 'salt-segmentation[kaggle]'"
        raise ValueError(f"the command kaggle is missing: {install}, and make a token at {TOKEN}")
    return found


def call(*words: str) -> str:
    """Run the command and return what it printed; raise ValueError if it fails, also if only its text says so."""
    command = [find_command(), *words]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    text = f"{done.stderr}\n{done.stdout}"  # warnings go to the first, most reasons to the second
    if done.returncode == 0 and not any(failure in text for failure in FAILURES):
        return done.stdout
    low = text.lower()
    if any(words in low for words in NO_TOKEN):
        raise ValueError(f"kaggle has no valid token (401): make one at {TOKEN} and save it as it says there")
    if "403" in low or "rules" in low or "permission" in low:
        raise ValueError(f"kaggle refuses (403): log in, join the competition and accept its rules at {RULES}")
    raise ValueError(f"kaggle failed: {last_line(text)}; see {COMPETITION_PAGE}")


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
