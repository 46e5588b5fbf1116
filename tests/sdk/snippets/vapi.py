from vapi import Vapi

# The SDK repeats every call that failed, a call that dials included: ask for none of that.
ONCE = {"max_retries": 0}


def vapi_client(token, sidecar="http://127.0.0.1:8080"):
    return Vapi(token=token, base_url=f"{sidecar}/vapi")


# vapi_client(token).calls.create(..., request_options=ONCE)
