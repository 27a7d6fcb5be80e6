// Does it stay as it is over hours, at half the load? `dev/soak` breaks something once a minute meanwhile and watches the
// processes; this script sends and checks.

import { checkMessages, options as of, prepare, sendMessages, steady } from './lib/run.js';
import { common, seconds } from './lib/settings.js';
import { summary } from './lib/summary.js';

const settings = common({ rate: 100, duration: '10m', vus: 50 });
settings.durationS = seconds('SOAK', `${settings.durationS}s`, 1, 7 * 86400);
const planned = settings.rate * settings.durationS;

export const options = of(settings, steady(settings), planned);

export const setup = () => prepare(settings);
export const send = (run) => sendMessages(settings, run, planned);
export const check = () => checkMessages(settings);

export function handleSummary(data) {
  return summary(data, { name: 'soak', load: `${settings.rate}/s for ${settings.durationS} s`, settings });
}
