export function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

/** Prose with `code` in it. */
export function prose(text: string): string {
  return escapeHtml(text).replaceAll(/`([^`]+)`/g, "<code>$1</code>");
}

/** A program or a shell line, in a box that scrolls by itself. */
export function codeBox(label: string, text: string): string {
  return `<pre tabindex="0" aria-label="${escapeHtml(label)}"><code>${escapeHtml(text.trim())}</code></pre>`;
}

/** A table in a box that scrolls by itself. Cells are HTML. */
export function tableBox(label: string, head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: string, values: readonly string[], more = ""): string =>
    values.map((value) => `<${tag}${more}>${value}</${tag}>`).join("");
  const body = rows.map(([first = "", ...rest]) => `<tr><th scope="row">${first}</th>${cells("td", rest)}</tr>`).join("");
  return `<div class="box" tabindex="0" role="region" aria-label="${escapeHtml(label)}"><table><thead><tr>${cells("th", head, ' scope="col"')}</tr></thead><tbody>${body}</tbody></table></div>`;
}

export function code(text: string): string {
  return `<code>${escapeHtml(text)}</code>`;
}
