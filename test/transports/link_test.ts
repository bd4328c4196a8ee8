// The link between a server and its active process is private: child processes of the program do not inherit it.
import { assert, assertEquals } from "@std/assert";
import { processTest, transports } from "../support/processes.ts";

for (const transport of transports) {
  processTest(
    `child processes inherit no link, and a SAM program among them is its own server, ${transport}`,
    async (stage) => {
      const program = stage.run("transports/private", { args: ["outer", transport] });
      assertEquals(await program.exited, { code: 0, signal: null });
      const [outer] = stage.lines("outer");
      assertEquals(
        { before: outer!["before"], link: outer!["link"], environment: outer!["environment"] },
        { before: null, link: null, environment: false },
      );
      assert(outer!["own"] > 0);
      assertEquals(outer!["inherited"], []);

      const [inner] = stage.lines("inner");
      assertEquals(inner!["instance"], 1);
      assert(![program.pid, outer!.pid].includes(inner!["parent"]));
      assertEquals(stage.lines("inner ended").map(({ code, instance }) => [code, instance]), [[
        4,
        1,
      ]]);
    },
  );
}
