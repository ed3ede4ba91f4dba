// Keys of a page. Plain keys are left to fields, menus and dialogs that use them themselves.

import { onBeforeUnmount, onMounted } from 'vue'

const OWN_KEYS = 'input, textarea, select, [role="slider"], [role="listbox"], [role="menu"], [role="dialog"], [role="combobox"]'

/** Runs the handler of a key such as `ArrowLeft` or `Ctrl+Enter` while the page is shown. */
export function useKeys(handlers: Record<string, () => void>): void {
  function press(event: KeyboardEvent): void {
    const withCtrl = event.ctrlKey || event.metaKey
    if (event.defaultPrevented || event.altKey) return
    const isTyping = event.target instanceof Element && event.target.closest(OWN_KEYS) !== null
    if (isTyping && !withCtrl) return
    const run = handlers[withCtrl ? `Ctrl+${event.key}` : event.key]
    if (!run) return
    event.preventDefault()
    run()
  }
  onMounted(() => { addEventListener('keydown', press) })
  onBeforeUnmount(() => { removeEventListener('keydown', press) })
}
