// Loaded before the page is drawn, so that it never flashes in another theme. Modules use window.sentencTheme.
(() => {
  const KEY = "sentenc-theme";
  const CHOICES = ["auto", "light", "dark"];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function read() {
    try {
      const choice = localStorage.getItem(KEY);
      return CHOICES.includes(choice) ? choice : "auto";
    } catch {
      return "auto"; // storage is switched off
    }
  }

  let choice = read();

  function apply() {
    document.documentElement.dataset.theme = choice;
    document.dispatchEvent(new CustomEvent("themechange"));
  }

  window.sentencTheme = {
    get choice() {
      return choice;
    },
    get isDark() {
      return choice === "dark" || (choice === "auto" && dark.matches);
    },
    next() {
      choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
      try {
        localStorage.setItem(KEY, choice);
      } catch {
        // Without storage, the choice lasts until the page is closed.
      }
      apply();
    },
  };

  dark.addEventListener("change", apply);
  apply();
})();
