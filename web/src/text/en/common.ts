// What stands on every page, and around them.

export const common = {
  name: 'MASUKA',
  skip: 'Skip to the content',
  messages: 'Messages',
  dismiss: 'Dismiss',
  close: 'Close',
  cancel: 'Cancel',
  save: 'Save',
  undo: 'Undo',
  more: 'More',
  images: 'Pictures of this job',
  imageOf: (at: number, all: number) => `Picture ${at} of ${all}`,
  percent: (percent: number) => `${Math.round(percent)} %`,

  nav: {
    label: 'Pages',
    generate: 'Generate',
    gallery: 'Gallery',
    train: 'Train',
    models: 'Models',
    system: 'Queue',
    waiting: 'jobs in the queue',
  },

  theme: {
    system: 'Theme of the system',
    light: 'Light theme',
    dark: 'Dark theme',
    switch: (is: string, next: string) => `${is}. Change to: ${next}`,
  } as const,

  connection: { lost: 'The connection to the server is lost. Trying again…' },

  errors: {
    title: 'That did not work',
    retry: 'Try again',
    unreachable: 'The server cannot be reached. Is it running?',
    unknown: 'Something unexpected happened',
  },

  login: {
    title: 'Log in',
    hint: 'This server is protected by a key. It is the value of MASUKA_API_KEY.',
    key: 'Key',
    submit: 'Open the studio',
    wrong: 'This is not the key of this server.',
  },

  loading: 'Loading…',
  dot: '  ·  ',
  chooseFiles: 'Choose files',
}
