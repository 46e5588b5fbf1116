import { VapiClient } from "@vapi-ai/server-sdk";

// The SDK repeats every call that failed, a call that dials included: ask for none of that.
export function vapiClient(token, sidecar = "http://127.0.0.1:8080", options = {}) {
  return new VapiClient({ token, baseUrl: `${sidecar}/vapi`, maxRetries: 0, ...options });
}
