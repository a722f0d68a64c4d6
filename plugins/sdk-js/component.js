// What a component has beside the author's module: lines of the log go to the host.

import { write } from "gristmill:transform/log@1.0.0";
import { setWriter } from "./log.js";

setWriter(write);
