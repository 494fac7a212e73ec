"""The status page in a real browser: headless Chromium, driven by Selenium."""
