import twilio from "twilio";

const TWILIO = ".twilio.com";

/** Sends https://<product>.twilio.com/... to <sidecar>/twilio/<product>/... instead. */
class SidecarClient extends twilio.RequestClient {
  constructor(sidecar, options) {
    super(options);
    this.sidecar = sidecar;
  }

  request(options) {
    const { hostname, pathname, search } = new URL(options.uri);
    if (!hostname.endsWith(TWILIO)) return super.request(options);
    const label = hostname.slice(0, -TWILIO.length);
    const uri = `${this.sidecar}/twilio/${label}${pathname}${search}`;
    return super.request({ ...options, uri });
  }
}

export function twilioClient(accountSid, authToken, sidecar = "http://127.0.0.1:8080", options = {}) {
  const httpClient = new SidecarClient(sidecar, { timeout: 30_000 });
  return twilio(accountSid, authToken, { ...options, httpClient });
}
