// Tests whose outcome is decided otherwise here, and why.

export const EXPECTED = {
  // A part, a cookie and unclear framing are never kept, or never even forwarded.
  'headers-store-Content-Range': [false, 'a 200 with Content-Range is not kept'],
  'headers-store-Set-Cookie': [false, 'answers with Set-Cookie are not kept'],
  'headers-store-Transfer-Encoding': [false, 'the origin sends a Transfer-Encoding of its own making: 502'],
  '304-etag-update-response-Content-Range': [false, 'as above'],
  '304-etag-update-response-Set-Cookie': [false, 'as above'],
  // A 304 that names another strong validator is about another answer (RFC 9111 4.3.4): it is asked for again.
  '304-etag-update-response-ETag': [false, 'the second request counts as a retry'],
  // An Age that is a list is taken for none that can be read. The test's own name says so too; what it asserts does not.
  'age-parse-prefix': [false, 'Age: 0, 7200'],
  // Every field that is sent on is part of the key, so that none can shape an answer for others.
  'vary-cache-key': [false, 'a field that Vary does not name divides answers too'],
  // What is fresh for no time is given to nobody else.
  'stale-sie-close': [true, 'stale-if-error of an answer is heard'],
  'stale-sie-503': [true, 'stale-if-error of an answer is heard'],
  'cc-resp-no-cache-revalidate': [true, 'kept, and asked about each time']
}
