/** The messenger's own page: the element, with a token from the fragment or as an anonymous customer. */

import { html, render } from 'lit';
import { Account } from '../shared/auth.ts';
import { localizeDocument } from '../shared/i18n.ts';
import { applyTheme, languageChoice, themeButton } from '../shared/ui.ts';
import './element.ts';

localizeDocument();
applyTheme();
const account = new Account('messenger');
account.take(); // a known customer's, for this tab alone
const queue = new URLSearchParams(location.search).get('queue') ?? 'support';
const page = html`<main class="phone"><hub-messenger queue=${queue}></hub-messenger></main>
  <footer class="corner">${languageChoice()}${themeButton()}</footer>`;
render(page, document.getElementById('app')!);
