"""The digest of a bundle as MLflow's model registry tells it: a tag of the version that an alias names.

Notable: the registry (`MLFLOW_REGISTRY_URI`, else `MLFLOW_TRACKING_URI`) holds no bundle, it only says which one is
meant; whoever moves the alias decides what routers may serve. It is asked anew for every bundle that is opened.
"""

from __future__ import annotations

import re

from twotower.errors import BundleError, MissingExtraError

TAG = "twotower.digest"
ALIAS = re.compile(r"models:/([^/@\s]+)@([^/@\s]+)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def registered_digest(name: str, alias: str) -> str:
    """The tag `twotower.digest` of the version of a model that an alias names. Raises BundleError where the registry
    does not tell it, MissingExtraError without MLflow."""
    try:
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise MissingExtraError(
            f"models:/{name}@{alias} needs the package mlflow, which is not installed; run: pip install "
            "'twotower-matcher[registry]', or give the digest itself"
        ) from None
    try:
        version = MlflowClient().get_model_version_by_alias(name, alias)
    except Exception as error:  # MLflow's own, or whatever its database or HTTP client raises
        raise BundleError(
            f"models:/{name}@{alias}: the registry does not say which version that is ({type(error).__name__}); set "
            "MLFLOW_REGISTRY_URI, and the alias"
        ) from error
    digest = str(version.tags.get(TAG, "")).lower()
    if not _DIGEST.fullmatch(digest):
        raise BundleError(
            f"models:/{name}@{alias}: version {version.version} has no digest in its tag {TAG}; set it to the id in "
            "the bundle's manifest.json"
        )
    return digest
