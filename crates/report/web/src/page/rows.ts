// Links to rows of tables: the list that holds them opens and is marked.

/** Opens the rows that the address or a click names. */
export function followRows(): void {
  const show = (id: string) => {
    const rows = document.getElementById(id);
    if (!(rows instanceof HTMLDetailsElement) || !rows.classList.contains("claim-rows")) {
      return;
    }
    for (const other of document.querySelectorAll(".claim-rows.asked")) {
      other.classList.remove("asked");
    }
    rows.open = true;
    rows.classList.add("asked");
    // Not smoothly: the way there can be long, and what lies on it would be drawn.
    rows.scrollIntoView({ block: "start", behavior: "instant" });
    rows.querySelector("summary")?.focus({ preventScroll: true });
  };
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest<HTMLAnchorElement>("a.to-rows") : null;
    if (link) {
      event.preventDefault();
      history.pushState(null, "", link.hash);
      // A second click on the same link must open the rows too.
      show(link.hash.slice(1));
    }
  });
  addEventListener("popstate", () => show(location.hash.slice(1)));
  show(location.hash.slice(1));
}
