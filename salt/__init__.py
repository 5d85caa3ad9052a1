"""Salt: config-driven training for salt segmentation in seismic tiles."""

__version__ = "0.1.0"
