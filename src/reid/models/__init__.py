"""Networks. Whatever imports one of these modules imports timm without PyTorch's compiler, see `timm_import`."""

import reid.models.timm_import  # noqa: F401

__all__: list[str] = []
