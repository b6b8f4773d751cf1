import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const exec = promisify(execFile);

export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface Authority {
  /** PEM, as NODE_EXTRA_CA_CERTS takes it. */
  readonly certFile: string;
  /** `san` as openssl writes it, e.g. `IP:127.0.0.1`; `days` below 0 for one that has expired. */
  issue(name: string, options: { readonly san: string; readonly days: number }): Promise<Certificate>;
}

/** A certificate authority of one's own in a folder, as a company makes it: with openssl. */
export async function makeAuthority(dir: string): Promise<Authority> {
  const path = (name: string): string => join(dir, name);
  const openssl = (...args: readonly string[]): Promise<unknown> => exec("openssl", [...args]);
  const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  await openssl("req", "-x509", ...ec, "-keyout", path("ca.key"), "-out", path("ca.pem"), "-days", "30", "-subj", "/CN=A company's own");
  return {
    certFile: path("ca.pem"),
    issue: async (name, { san, days }) => {
      const [key, request, extensions, cert] = ["key", "csr", "ext", "pem"].map((end) => path(`${name}.${end}`)) as [
        string,
        string,
        string,
        string,
      ];
      await openssl("req", ...ec, "-keyout", key, "-out", request, "-subj", `/CN=${name}`);
      await writeFile(extensions, `subjectAltName=${san}\n`);
      const by = ["-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-CAcreateserial", "-extfile", extensions];
      await openssl("x509", "-req", "-in", request, ...by, "-out", cert, "-days", String(days));
      return { certFile: cert, keyFile: key };
    },
  };
}
