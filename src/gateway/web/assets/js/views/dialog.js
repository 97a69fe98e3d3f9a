// A modal dialog: a form with its errors, a question, a list to read.

import { el } from './dom.js';
import { closeMenu } from './menu.js';

let count = 0;

/**
 * Shows a dialog; `submit()` may reject with an error to show. The dialog closes when it resolves, and then `done()`
 * may place the focus, which the browser has put back where it was before the dialog. Returns `{run, close}`: `run`
 * does work as `submit` would.
 */
export function openDialog({ title, body, submitLabel, submit, done = () => {}, danger = false, cancelLabel = 'Cancel' }) {
  const error = el('p', { class: 'form-error', role: 'alert' });
  const button = el('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, submitLabel ?? '');
  count += 1;
  const titleId = `dialog-${count}`;
  let succeeded = false;
  const onclose = () => {
    dialog.remove();
    if (succeeded) done();
  };
  const dialog = el('dialog', { 'aria-labelledby': titleId, onclose });
  const run = async (work) => {
    error.textContent = '';
    button.disabled = true;
    try {
      await work();
      succeeded = true;
      dialog.close();
    } catch (cause) {
      error.textContent = cause.message;
    } finally {
      button.disabled = false;
    }
  };
  const onsubmit = (event) => {
    event.preventDefault();
    if (submit) run(submit);
  };
  dialog.append(
    el('form', { onsubmit },
      el('h2', { id: titleId }, title), ...body, error,
      el('div', { class: 'buttons' },
        el('button', { type: 'button', class: 'quiet', onclick: () => dialog.close() }, cancelLabel),
        submit ? button : null)),
  );
  document.body.append(dialog);
  closeMenu(); // What lies under a dialog can't be reached.
  dialog.showModal();
  return { run, close: () => dialog.close() };
}

/** Asks before something that can't be undone is done. */
export function confirm({ title, text, label, act, danger = true, done }) {
  openDialog({ title, body: text ? [el('p', {}, text)] : [], submitLabel: label, submit: act, danger, done });
}

/** Something to read. */
export function tell({ title, body }) {
  return openDialog({ title, body, cancelLabel: 'Close' });
}

/** A choice of `[value, label]`; `act(value)` is done with the one chosen. */
export function choose({ title, text = '', options, label, act, done }) {
  const name = `choice-${count}`;
  const inputs = options.map(([value, words], at) => [value, el('input', { type: 'radio', name, checked: at === 0 }), words]);
  openDialog({
    title,
    body: [
      text ? el('p', { class: 'hint' }, text) : null,
      el('div', { class: 'choices', role: 'radiogroup', 'aria-label': title }, inputs.map(([, input, words]) => el('label', { class: 'choice' }, input, words))),
    ].filter(Boolean),
    submitLabel: label,
    submit: () => act(inputs.find(([, input]) => input.checked)[0]),
    done,
  });
}
