/**
 * Build the web apps into `dist/`: flat names, minified ES modules, the same bytes from the same sources.
 *
 *     node build.mjs            write dist/
 *     node build.mjs --check    write nothing; status 1 where dist/ is not what the sources give
 *
 * Every app's first load (page, script and style, gzipped) has a budget; past it the build fails.
 */

import { build } from 'esbuild';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const HERE = dirname(fileURLToPath(import.meta.url));
const DIST = join(HERE, 'dist');
const BUDGET_BYTES = 90 * 1024;
const CHECK = process.argv.includes('--check');

const APPS = ['console', 'desk', 'messenger'];
const SCRIPTS = {
  console: 'console/main.ts',
  desk: 'desk/main.ts',
  messenger: 'messenger/main.ts',
  'messenger-element': 'messenger/element.ts',
  alert: 'desk/alert.ts',
  sdk: 'sdk/hub.ts',
};
const STYLES = { console: 'console/console.css', desk: 'desk/desk.css', messenger: 'messenger/messenger.css' };
const COPIES = {
  'console.html': 'console/index.html',
  'desk.html': 'desk/index.html',
  'messenger.html': 'messenger/index.html',
  'icon.svg': 'shared/icon.svg',
};

/** Entry points that exist, as esbuild wants them. */
function present(entries) {
  return Object.fromEntries(Object.entries(entries).filter(([, path]) => existsSync(join(HERE, path))));
}

async function bundle(entryPoints, extra) {
  const made = await build({
    absWorkingDir: HERE,
    entryPoints,
    outdir: 'dist',
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    target: ['es2022', 'chrome111', 'firefox113', 'safari16.4'],
    charset: 'utf8',
    legalComments: 'none',
    logLevel: 'warning',
    ...extra,
  });
  return made.outputFiles.map((file) => [file.path.slice(DIST.length + 1), Buffer.from(file.contents)]);
}

/** `import style from './x.css?text'`: a style sheet as minified text, for shadow roots. */
const cssText = {
  name: 'css-text',
  setup(builder) {
    builder.onResolve({ filter: /\.css\?text$/ }, (args) => ({
      path: join(args.resolveDir, args.path.slice(0, -'?text'.length)),
      namespace: 'css-text',
    }));
    builder.onLoad({ filter: /.*/, namespace: 'css-text' }, async (args) => {
      const made = await build({ entryPoints: [args.path], bundle: true, minify: true, write: false, logLevel: 'warning' });
      return { contents: made.outputFiles[0].text.trim(), loader: 'text', watchFiles: [args.path] };
    });
  },
};

/** The SDK's types, from its source. */
function declarations() {
  const folder = mkdtempSync(join(tmpdir(), 'hub-types-'));
  try {
    const compiler = join(HERE, 'node_modules', 'typescript', 'bin', 'tsc');
    execFileSync(process.execPath, [compiler, '--project', 'tsconfig.sdk.json', '--outDir', folder], { cwd: HERE, stdio: 'inherit' });
    return readFileSync(join(folder, 'hub.d.ts'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const outputs = new Map([
  ...(await bundle(present(SCRIPTS), { plugins: [cssText] })),
  ...(await bundle(present(STYLES), {})),
  ...Object.entries(present(COPIES)).map(([name, path]) => [name, readFileSync(join(HERE, path))]),
  ['sdk.d.ts', declarations()],
]);

let failed = false;
for (const app of APPS) {
  const parts = [...outputs].filter(([name]) => [`${app}.js`, `${app}.css`, `${app}.html`].includes(name));
  const size = parts.reduce((sum, [, content]) => sum + gzipSync(content, { level: 9 }).length, 0);
  if (!size) continue;
  console.log(`${app}: ${(size / 1024).toFixed(1)} KiB gzip of ${BUDGET_BYTES / 1024}`);
  if (size > BUDGET_BYTES) {
    console.error(`${app} is over its budget`);
    failed = true;
  }
}

const there = existsSync(DIST) ? readdirSync(DIST) : [];
if (CHECK) {
  const drifted = [...new Set([...there, ...outputs.keys()])].filter(
    (name) => !there.includes(name) || !outputs.get(name)?.equals(readFileSync(join(DIST, name))),
  );
  if (drifted.length) {
    console.error(`dist/ is not what the sources give (run \`make web\`): ${drifted.sort().join(', ')}`);
    failed = true;
  }
} else {
  mkdirSync(DIST, { recursive: true });
  for (const name of there) if (!outputs.has(name)) rmSync(join(DIST, name));
  for (const [name, content] of outputs) writeFileSync(join(DIST, name), content);
}
process.exitCode = failed ? 1 : 0;
