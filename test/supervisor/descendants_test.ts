// The processes below a wrapper that get the wrapper's signal from SAM, by their state in /proc.
import { assertEquals } from "@std/assert";
import { Descendants } from "../../src/supervisor/instance/descendants.ts";
import type { SystemFiles } from "../../src/runtime/runtime.ts";
import { emptyRuntime } from "../support/empty_runtime.ts";
import { test } from "../support/harness.ts";

interface Entry {
  parent: number;
  /** The process handles SIGTERM. */
  handles: boolean;
  turns: number;
  /** SIGTERM is pending for the process. */
  awaits?: boolean;
  beginning?: number;
}

/** The processes of a machine; process 1 is the wrapper. */
type Machine = Map<number, Entry>;

const bit = (on: boolean | undefined) => on ? "0000000000004000" : "0000000000000000";

function runtimeOf(machine: Machine): SystemFiles {
  return {
    ...emptyRuntime,
    systemNames: (path) => path.endsWith("/task") ? [path.split("/")[2]!] : [],
    systemText(path) {
      const pid = Number(path.split("/")[2]);
      const entry = machine.get(pid);
      if (!entry) return undefined;
      switch (path.split("/").at(-1)) {
        case "stat":
          return `${pid} (a b) S ${entry.parent} ${"0 ".repeat(17)}${entry.beginning ?? pid} 0`;
        case "status":
          return `ShdPnd:\t${bit(entry.awaits)}\nSigCgt:\t${bit(entry.handles)}\n`;
        case "schedstat":
          return `1 1 ${entry.turns}\n`;
        case "children":
          return [...machine].filter(([, { parent }]) => parent === pid).map(([pid]) => pid)
            .join(" ");
        default:
          return undefined;
      }
    },
  };
}

/** Ends the wrapper after `meanwhile`; returns the processes that then get the signal. */
function cutOff(wrapper: boolean, below: Record<number, Entry>, meanwhile: (m: Machine) => void) {
  const machine: Machine = new Map([[1, { parent: 0, handles: wrapper, turns: 1 }]]);
  for (const [pid, entry] of Object.entries(below)) machine.set(Number(pid), entry);
  const descendants = new Descendants(runtimeOf(machine));
  descendants.track(1, "SIGTERM");
  meanwhile(machine);
  machine.delete(1);
  const sent: number[] = [];
  const passOn = () => descendants.passOn("SIGTERM", (pid) => sent.push(pid));
  passOn();
  passOn();
  return { sent, passOn, machine, descendants };
}

const server = (parent = 1): Entry => ({ parent, handles: true, turns: 5 });
const nothing = () => {};

test("below a wrapper: a process gets the signal once, and not if it may have received it already", () => {
  const runs = (machine: Machine) => machine.get(2)!.turns++;
  const gets = (machine: Machine) => machine.get(2)!.awaits = true;
  assertEquals(cutOff(false, { 2: server() }, runs).sent, [2], "the wrapper died of it");
  assertEquals(cutOff(true, { 2: server() }, runs).sent, [], "the wrapper may have passed it on");
  assertEquals(cutOff(true, { 2: server() }, gets).sent, [], "the wrapper has passed it on");
  assertEquals(cutOff(true, { 2: server() }, nothing).sent, [2], "it has not run since");
  const deaf = { ...server(), handles: false };
  assertEquals(cutOff(true, { 2: deaf }, runs).sent, [2], "it would have died of it");
});

test("below a wrapper: a process gets no signal while its parent lives", () => {
  const shell: Entry = { parent: 1, handles: false, turns: 1 };
  const { sent, passOn, machine, descendants } = cutOff(false, { 2: shell, 3: server(2) }, nothing);
  assertEquals(sent, [2]);
  machine.delete(2);
  passOn();
  assertEquals(sent, [2, 3]);
  assertEquals(descendants.living.map(({ pid }) => pid), [3]);
  machine.delete(3);
  assertEquals(descendants.living, []);
});

test("below a wrapper: a process that starts later is found, and a new process with a reused pid is not signaled", () => {
  const { sent, passOn, machine } = cutOff(false, { 2: server() }, nothing);
  machine.set(4, server(2));
  passOn();
  machine.delete(2);
  passOn();
  assertEquals(sent, [2, 4]);
  const other = cutOff(false, { 2: server() }, (machine) => machine.get(2)!.beginning = 99);
  assertEquals([other.sent, other.descendants.living], [[], []]);
});
