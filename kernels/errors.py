"""What can go wrong, split by who must act."""


class ModelError(ValueError):
    """A network, or the bytes of one, that cannot be used as it is. The caller must act; nothing was changed."""


class RowsError(ValueError):
    """Rows that do not fit the model they were given to. The caller must act; nothing was computed."""


class UnknownModelError(LookupError):
    """A handle that this engine never gave out or has unloaded. The caller must act; nothing was computed."""


class TooManyModelsError(RuntimeError):
    """The engine holds as many models as it may. The caller must unload one first; nothing was loaded."""


class DeviceError(RuntimeError):
    """The device or its driver failed. No row of the batch was answered and no model was lost from the caller's hands:
    rerun the batch with `kernels.reference`. The operator must act if it happens again."""
