import { decode, encode } from "@jridgewell/sourcemap-codec";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

// Bundles the npm package. Everything that each active process loads is in one file, because every further file makes its
// start about half a millisecond longer. The server's code and the runtime adapters are files of their own, which are
// loaded only where they are needed.

const built = ".build/package";
const always = new Set();
/** Modules that are loaded together, or that are small: opening a further file would take longer than reading it. */
const shared = [
  ["bun", /bun(_stream)?\.js$/],
  ["node_api", /(node_api|c_library_node|cluster_workers)\.js$/],
  ["deno_spawn", /deno_(spawn|temporary_files)\.js$/],
  ["c_memory", /(c_memory|peer_credentials)\.js$/],
  ["driver", /supervisor\/(driver|timekeeper|cluster_bridge|log|time_limit|wake_timer)\.js$/],
  ["driver", /core\/server\/\w+\.js$/],
  ["driver", /supervisor\/instance\/(?!source_map)\w+\.js$|private_(listener|directories)\.js$/],
];

export default {
  input: {
    mod: `${built}/mod.js`,
    testing: `${built}/src/testing/mod.js`,
    metrics: `${built}/src/metrics/mod.js`,
    otel: `${built}/src/metrics/otel.js`,
    corosync: `${built}/src/corosync/mod.js`,
    // A worker: the chunk that starts it finds it by its name, in the same folder.
    corosync_thread: `${built}/src/corosync/daemon/corosync_thread.js`,
    cli: `${built}/src/cli/main.js`,
    preload: `${built}/src/active/preload.js`,
    auto_register: `${built}/src/active/auto_register.js`,
    member: `${built}/src/active/member.js`,
  },
  external: /^node:/,
  plugins: [
    { name: "dependencies", resolveId: findDependency },
    { name: "sources", load: withMap, generateBundle: linesOnly },
    { name: "CommonJS", buildEnd: emitPreloads },
    { name: "schema", buildEnd: emitSchema },
    { name: "public types", writeBundle: removeInnerTypes },
  ],
  output: {
    dir: "dist",
    sourcemap: true,
    sourcemapExcludeSources: true,
    banner: (chunk) => chunk.name === "cli" ? "#!/usr/bin/env node" : licensesOf(chunk.moduleIds),
    chunkFileNames: "[name].js",
    onlyExplicitManualChunks: true, // else a chunk includes what its modules import, and other runtimes load the whole chunk
    manualChunks(id, { getModuleInfo }) {
      if (always.size === 0) {
        for (const used of ["mod.js", "transports/unix.js"]) {
          walk(`${process.cwd()}/${built}/${used}`);
        }
      }
      if (always.has(id) || /(load_c_library|node_stream|spawn_error)\.js$/.test(id)) return "sam";
      return shared.find(([, modules]) => modules.test(id))?.[0];

      function walk(module) {
        if (always.has(module)) return;
        always.add(module);
        getModuleInfo(module).importedIds.forEach(walk);
      }
    },
  },
};

/** Adds the CommonJS files, as tsc compiled them. */
function emitPreloads() {
  for (const fileName of ["preload_node.cjs", "preload_wrapped.cjs", "cluster_primary.cjs"]) {
    const source = readFileSync(`${built}/src/active/${fileName}`, "utf8")
      .replace(/^\/\/# source.*/m, "");
    this.emitFile({ type: "asset", fileName, source });
  }
}

/** Adds the JSON schema of the configuration file. */
async function emitSchema() {
  const { configSchema } = await import(`${process.cwd()}/${built}/src/cli/run/schema.js`);
  const source = JSON.stringify(configSchema());
  this.emitFile({ type: "asset", fileName: "schema.json", source });
}

/** Bundles the library that reads source maps, with its dependencies. */
function findDependency(id) {
  const [, name] = /^@jridgewell\/(.+)$/.exec(id) ?? [];
  return name && join(process.cwd(), `node_modules/${id}/dist/${name}.mjs`);
}

/** Loads a module with its source map. Files that it finds by its URL are beside it in the package. */
function withMap(id) {
  if (id.includes("/node_modules/")) return withoutComments(readFileSync(id, "utf8"));
  const built = readFileSync(id, "utf8").replaceAll("`../active/", "`./");
  const code = halveIndentation(built, this.parse(built));
  return { code, map: readFileSync(`${id}.map`, "utf8") };
}

/** Indents code by two spaces instead of the four of tsc. A template of several lines stays as it is. */
function halveIndentation(code, tree) {
  const texts = [];
  const visit = (node) => {
    if (node.type === "TemplateElement") texts.push(node);
    for (const each of Object.values(node)) if (each instanceof Object) visit(each);
  };
  visit(tree);
  return code.replace(
    /^( {4})+/gm,
    (indent, _last, at) =>
      texts.some(({ start, end }) => start < at && at < end)
        ? indent
        : indent.slice(indent.length / 2),
  );
}

/** The licenses of the bundled dependencies, as a comment. A paragraph that they share appears once. */
function licensesOf(ids) {
  const licenses = ids.filter((id) => id.includes("/node_modules/"))
    .map((id) => readFileSync(join(dirname(id), "../LICENSE"), "utf8").trim());
  const paragraphs = new Set(licenses.flatMap((text) => text.split(/\n{2,}/)));
  return paragraphs.size === 0 ? "" : `/*\n${[...paragraphs].join("\n\n")}\n*/`;
}

/** Loads a dependency without its full-line comments, and without a source map. */
function withoutComments(code) {
  return { code: code.replace(/^\s*(\/\/.*|\/\*[^]*?\*\/)\n/gm, ""), map: { mappings: "" } };
}

/**
 * Of each map what a stack trace needs: for each line with a word in it the line it comes from. Columns would make the map
 * four times as large, lines of brackets alone a seventh larger.
 */
function linesOnly(_options, bundle) {
  for (const file of Object.values(bundle)) {
    if (!file.fileName.endsWith(".map")) continue;
    const map = JSON.parse(file.source);
    const code = bundle[file.fileName.slice(0, -".map".length)].code.split("\n");
    const first = decode(map.mappings).map((line, at) =>
      /\w/.test(code[at]) ? line.slice(0, 1).map(([, ...from]) => [0, ...from.slice(0, 3)]) : []
    );
    const mappings = encode(first);
    file.source = JSON.stringify({ ...map, names: [], mappings });
  }
}

/** Removes the type declarations that no entry imports. */
function removeInnerTypes() {
  const { exports } = JSON.parse(readFileSync("package.json", "utf8"));
  const needed = new Set();
  const need = (file) => {
    if (needed.has(file) || !existsSync(file)) return; // an example in a comment may import a missing file
    needed.add(file);
    for (const [, name] of readFileSync(file, "utf8").matchAll(/(?:from |import\()"(\.[^"]+)"/g)) {
      need(join(dirname(file), name.replace(/\.[jt]s$/, ".d.ts")));
    }
  };
  for (const { types } of Object.values(exports)) if (types) need(join(types));
  for (const name of readdirSync("dist", { recursive: true })) {
    const file = join("dist", name);
    if (/\.d\.c?ts$/.test(file) && !needed.has(file)) rmSync(file);
  }
}
