/** An element with properties and children. Texts become text nodes: nothing a server says is ever markup. */
export function element(tag, properties = {}, children = []) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) if (value !== undefined && value !== null) made[name] = value;
  made.append(...children);
  return made;
}

export const find = (id) => document.getElementById(id);

/** Shows a text in a place that is hidden while it has none. */
export function tell(place, text) {
  place.textContent = text ?? "";
  place.hidden = !text;
}
