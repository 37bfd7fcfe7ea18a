"""The models that the emulator offers."""
