// Preact and htm, bound so that text is always inserted as text, with its hidden characters shown.

import htm from "./htm/htm.js";
import { h } from "./preact/preact.js";
import { visible } from "./text.js";

export { render } from "./preact/preact.js";
export * from "./preact/hooks.js";

const isText = (child) => typeof child === "string";

function element(type, properties, ...children) {
  if (properties?.title) properties.title = visible(properties.title);
  return h(type, properties, ...children.map((child) => (isText(child) ? visible(child) : child)));
}

export const html = htm.bind(element);
