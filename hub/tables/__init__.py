"""
The tables of `hub.toml`, each with the values that it makes and what is refused in it; `hub.settings` puts them together.

Pure but for the `read` that they are given. Every reader takes the `Document` and raises `SettingsError`.
"""
