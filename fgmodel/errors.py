"""The mistakes a user can make with data and settings, each a single line."""


class InputError(Exception):
    """Something the user gave is wrong: the message says where, what was given and what would be right."""


class SettingError(InputError):
    """A setting is wrong; `name` is its dotted name, so that a caller can add the file and line it came from."""

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(message)
