const DAYS = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)";
const LONG_DAYS = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)";
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const TIME = String.raw`(?<hour>\d\d):(?<minute>\d\d):(?<second>\d\d)`;
const MONTH = `(?<month>${MONTHS.join("|")})`;

/** The three forms that a recipient has to read (RFC 9110, 5.6.7): the usual one, RFC 850's and asctime's. */
const FORMS = [
  new RegExp(String.raw`^${DAYS}, (?<day>\d\d) ${MONTH} (?<year>\d{4}) ${TIME} GMT$`),
  new RegExp(String.raw`^${LONG_DAYS}, (?<day>\d\d)-${MONTH}-(?<year>\d\d) ${TIME} GMT$`),
  new RegExp(String.raw`^${DAYS} ${MONTH} (?<day>[ \d]\d) ${TIME} (?<year>\d{4})$`),
];

/** An HTTP date as unix ms; null for what is none, which is to be treated as absent. `now` decides the century of a year of two digits. */
export function parseHttpDate(text: string, now: number = Date.now()): number | null {
  const groups = FORMS.map((form) => form.exec(text.trim())?.groups).find((found) => found !== undefined);
  if (groups === undefined) return null;
  const [day, hour, minute, second] = ["day", "hour", "minute", "second"].map((name) => Number(groups[name]));
  const month = MONTHS.indexOf(groups["month"] ?? "");
  const year = fullYear(groups["year"] ?? "", now);
  if (day === undefined || hour === undefined || minute === undefined || second === undefined) return null;
  // A leap second counts as the one before it.
  const at = Date.UTC(year, month, day, hour, minute, Math.min(second, 59));
  const date = new Date(at);
  const isReal = date.getUTCDate() === day && date.getUTCMonth() === month && hour < 24 && minute < 60 && second <= 60;
  return isReal ? at : null;
}

/** Of two digits: never more than 50 years ahead. */
function fullYear(digits: string, now: number): number {
  const year = Number(digits);
  if (digits.length === 4) return year;
  const present = new Date(now).getUTCFullYear();
  const guess = present - (present % 100) + year;
  return guess > present + 50 ? guess - 100 : guess;
}

/** Unix ms as an HTTP date, cut to whole seconds. */
export function httpDate(at: number): string {
  return new Date(at).toUTCString();
}
