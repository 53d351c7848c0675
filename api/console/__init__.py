"""The console: pages for whoever operates Heed, made by the API's own process, without any script."""
