// Does it work at all? A few messages a second for a moment, every one checked.

import { checkMessages, options as of, prepare, sendMessages, steady } from './lib/run.js';
import { common } from './lib/settings.js';
import { summary } from './lib/summary.js';

const settings = common({ rate: 10, duration: '10s', vus: 5 });
const planned = settings.rate * settings.durationS;

export const options = of(settings, steady(settings), planned);

export const setup = () => prepare(settings);
export const send = (run) => sendMessages(settings, run, planned);
export const check = () => checkMessages(settings);

export function handleSummary(data) {
  return summary(data, { name: 'smoke', load: `${settings.rate}/s for ${settings.durationS} s`, settings });
}
