import vue from 'eslint-plugin-vue'
import ts from 'typescript-eslint'

export default ts.config(
  { ignores: ['dist/', 'src/api/schema.d.ts', 'screenshots/'] },
  ...ts.configs.strict,
  ...ts.configs.stylistic,
  ...vue.configs['flat/recommended'],
  { files: ['**/*.vue'], languageOptions: { parserOptions: { parser: ts.parser } } },
  {
    files: ['**/*.vue'],
    rules: {
      'max-lines': ['error', 150],
      // Layout of templates is left to the hand that writes them.
      'vue/max-attributes-per-line': 'off',
      'vue/singleline-html-element-content-newline': 'off',
      'vue/html-self-closing': ['error', { html: { void: 'always' } }],
      'vue/require-default-prop': 'off',
      'vue/no-v-html': 'error',
      // Every word that a person reads stands in src/text/.
      'vue/no-bare-strings-in-template': 'error',
    },
  },
  {
    files: ['src/**/*.ts'],
    rules: { 'max-lines': ['error', { max: 250, skipBlankLines: true, skipComments: true }] },
  },
  { rules: { '@typescript-eslint/consistent-type-definitions': 'off' } },
)
