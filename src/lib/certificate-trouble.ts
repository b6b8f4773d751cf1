/** Why a certificate was not accepted. */
export interface CertificateTrouble {
  readonly kind: "authority" | "expired" | "name";
  /** In codes and messages of Node's TLS. */
  readonly matches: RegExp;
  /** In plain words, without a full stop. */
  readonly words: string;
  readonly advice: string;
}

export const CERTIFICATE_TROUBLES = [
  {
    kind: "expired",
    matches: /CERT_HAS_EXPIRED|CERT_NOT_YET_VALID|certificate has expired|certificate is not yet valid/,
    words: "the server's certificate has expired, or is not valid yet",
    advice: "renew it on the server, and look whether this machine's clock is right (timedatectl)",
  },
  {
    kind: "name",
    matches: /ERR_TLS_CERT_ALTNAME_INVALID|does not match certificate's altnames/,
    words: "the server's certificate is for another host name",
    advice: "use a name or address that the certificate holds, or have it issued for the one that is used",
  },
  {
    kind: "authority",
    matches:
      /SELF_SIGNED_CERT|UNABLE_TO_(?:VERIFY|GET_ISSUER)|CERT_UNTRUSTED|self-signed certificate|unable to verify the first certificate|unable to get (?:local )?issuer certificate/,
    words: "the server's certificate is from an authority that Node does not know",
    advice:
      "put the authority's certificate (PEM) into a file and name it in NODE_EXTRA_CA_CERTS, in the environment that the program is started with",
  },
] as const satisfies readonly CertificateTrouble[];

/** Null for what is no fault of a certificate. */
export function certificateTrouble(text: string): CertificateTrouble | null {
  return CERTIFICATE_TROUBLES.find(({ matches }) => matches.test(text)) ?? null;
}
