// The web client as people use it: two of them in a headless Chromium, each on a node of its own, from signing up to the
// crash of a node. Run it with
//
//     node tests/web/chromium.mjs BINARY [--shots FOLDER] [--source]
//
// --shots keeps pictures of what was seen; --source serves the pages of this source tree rather than the binary's own.
// It needs a minute at most on a quiet machine. Where no Chromium is installed it says so and succeeds.

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';

import { Browser, findChromium } from './browser.mjs';
import { Cluster } from './nodes.mjs';
import { serve } from './serve.mjs';
import * as story from './story.mjs';

const options = process.argv.slice(2);
const after = (name) => (options.includes(name) ? options[options.indexOf(name) + 1] : undefined);
const shots = after('--shots');
const given = options.find((option) => !option.startsWith('--') && option !== shots);
if (!given) {
  console.error('usage: node tests/web/chromium.mjs BINARY [--shots FOLDER] [--source]');
  process.exit(2);
}
// The nodes run in a folder of their own, so a path relative to the caller's would name nothing there.
const binary = resolve(given);
if (!existsSync(binary)) {
  console.error(`chromium: there is no ${binary}; \`cargo build\` makes target/debug/rookery`);
  process.exit(2);
}
const chromium = await findChromium();
if (!chromium) {
  console.log('chromium: skipped, as there is no Chromium here (CHROMIUM names another place)');
  process.exit(0);
}

const began = Date.now();
const closing = [];
let failed = false;
const close = async () => {
  for (const each of closing.splice(0).reverse()) await each();
};
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.once(signal, async () => {
    await close();
    process.exit(1);
  });
}
try {
  const cluster = await Cluster.start(binary, ['west', 'east']);
  closing.push(() => cluster.stop({ keep: failed }));
  const urls = {};
  for (const name of ['west', 'east']) {
    const address = cluster.address(name);
    if (options.includes('--source')) {
      const served = await serve(address);
      closing.push(() => served.close());
      urls[name] = `http://127.0.0.1:${served.port}/`;
    } else urls[name] = `http://${address}/`;
  }
  const browser = await Browser.launch(chromium);
  closing.push(() => browser.close());
  const stage = new story.Stage({ cluster, browser, urls, shots });
  try {
    for (const scene of story.SCENES) {
      const from = Date.now();
      const skipped = await scene(stage);
      console.log(`chromium: ${scene.name.replaceAll('_', ' ')}${skipped ? ` – skipped: ${skipped}` : ''} (${Date.now() - from} ms)`);
    }
    stage.checkErrors();
  } catch (error) {
    for (const page of browser.pages.values()) {
      if (shots) await page.screenshot(`${shots}/failed-${page.name}.png`).catch(() => {});
      if (page.errors.length > 0) console.error(`${page.name}'s page: ${page.errors.join('\n')}`);
    }
    throw error;
  }
} catch (error) {
  failed = true;
  console.error(error);
} finally {
  await close();
}
console.log(`chromium: ${failed ? 'failed' : 'all is well'} after ${Math.round((Date.now() - began) / 1000)} s`);
process.exit(failed ? 1 : 0);
