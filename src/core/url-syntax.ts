/** Longest URL that a request may name. */
export const MAX_URL_CHARS = 2_048;

const NAME = "(?:[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?\\.)*[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?\\.?";
const BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
const IPV4 = `${BYTE}(?:\\.${BYTE}){3}`;
const H16 = "[0-9A-Fa-f]{1,4}";
/** Eight groups, or fewer around one `::`. */
const IPV6 = [
  `(?:${H16}:){7}${H16}`,
  `(?:${H16}:){1,7}:`,
  ...[1, 2, 3, 4, 5, 6].map((before) => `(?:${H16}:){${before}}(?::${H16}){1,${7 - before}}`),
  `:(?:(?::${H16}){1,7}|:)`,
].join("|");
const PORT = "(?::(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?";
/** Whatever people paste: what is not ASCII, and spaces, are percent-encoded when the URL is read, as a browser does (URL Standard, 4.4). */
const REST = "(?:[/?#][^\\u0000-\\u001f\\u007f\\\\]*)?";

/** The syntax of an absolute http(s) URL without a user name: what the API takes, and what its description says. */
export function urlPattern({ allowHttp }: { readonly allowHttp: boolean }): string {
  return `^https${allowHttp ? "?" : ""}://(?:${NAME}|${IPV4}|\\[(?:${IPV6})\\])${PORT}${REST}$`;
}

const SYNTAX = new RegExp(urlPattern({ allowHttp: true }), "i");

/** Completes "The x field ..."; null for a URL of that syntax that `new URL` reads, too: it knows more of addresses. */
export function urlProblem(text: string, { allowHttp }: { readonly allowHttp: boolean }): string | null {
  const url = URL.parse(text);
  if (url !== null && (url.username !== "" || url.password !== "")) return "must not hold a user name or password.";
  if (url !== null && url.protocol !== "https:" && !(allowHttp && url.protocol === "http:"))
    return allowHttp ? "must be a valid URL that begins with https:// or http://." : "must begin with https://.";
  if (url !== null && SYNTAX.test(text)) return null;
  const host = /^[^/]*\/\/[^/?#]*[^!-~]/.test(text) ? ": the host's name is written in ASCII, as in xn--mller-kva.example" : "";
  return `must be a valid URL${allowHttp && host === "" ? " that begins with https:// or http://" : host}.`;
}
