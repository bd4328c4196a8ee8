// A bare runtime that does nothing but wake up, so many milliseconds after the last time.
import { say, settings } from "../support/say.ts";

setInterval(() => {}, settings.ms);
say("ready");
