// What this browser's user wants of the page, whoever is signed in: kept in localStorage.

const KEY = 'rookery.preferences';
const DEFAULTS = { theme: 'system', notifications: false };

let current = read();

function read() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? '{}') };
  } catch {
    return { ...DEFAULTS };
  }
}

export const preferences = () => current;

export function setPreference(name, value) {
  current = { ...current, [name]: value };
  try {
    localStorage.setItem(KEY, JSON.stringify(current));
  } catch {
    // No room: it holds as long as the page.
  }
  applyTheme();
}

/** `system` follows the device; the style sheet knows the other two by the root's mark. */
export function applyTheme() {
  const { theme } = current;
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

// Another tab's choice counts here too.
globalThis.addEventListener?.('storage', ({ key }) => {
  if (key !== KEY) return;
  current = read();
  applyTheme();
});
