// A value that several components show. They are rendered again when it changes.

import { useEffect, useState } from "./html.js";

export class Shared {
  #value;
  #users = new Set();

  constructor(value) {
    this.#value = value;
  }

  get value() {
    return this.#value;
  }

  set value(value) {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const user of [...this.#users]) user(value);
  }

  /** The value now, within a component. */
  use() {
    const [, setSeen] = useState(this.#value);
    useEffect(() => {
      const user = (value) => setSeen(() => value);
      this.#users.add(user);
      user(this.#value); // it may have changed since it was drawn
      return () => this.#users.delete(user);
    }, []);
    return this.#value;
  }
}
