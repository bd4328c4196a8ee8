// The npm package: what every active process loads is one file, because each file costs its start about half a
// millisecond; the server's side and the runtimes' adapters are files of their own, loaded where they are needed.

const built = ".build/package";
const always = new Set();

export default {
  input: {
    mod: `${built}/mod.js`,
    testing: `${built}/src/testing.js`,
    metrics: `${built}/src/metrics.js`,
    otel: `${built}/src/otel.js`,
    corosync: `${built}/src/corosync.js`,
    // A worker: found by its name, beside the chunk that starts it.
    corosync_thread: `${built}/src/cluster/corosync_thread.js`,
    cli: `${built}/src/cli/main.js`,
    preload: `${built}/src/preload.js`,
  },
  external: /^node:/,
  output: {
    dir: "dist",
    banner: (chunk) => chunk.name === "cli" ? "#!/usr/bin/env node" : "",
    chunkFileNames: "[name].js",
    manualChunks(id, { getModuleInfo }) {
      if (always.size === 0) {
        for (const used of ["mod.js", "transports/unix.js"]) {
          walk(`${process.cwd()}/${built}/${used}`);
        }
      }
      if (always.has(id) || /(mapped_page|node_stream|spawn_error)\.js$/.test(id)) return "sam";

      function walk(module) {
        if (always.has(module)) return;
        always.add(module);
        getModuleInfo(module).importedIds.forEach(walk);
      }
    },
  },
};
