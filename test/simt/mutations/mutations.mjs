// Plausible mistakes in kernels, planted one at a time: each mutated copy is compiled,
// linked with the other kernels, and must fail kernel_test. A mistake that passes is a hole in the
// emulator or in the tests. Usage: node mutations.mjs BUILD_FOLDER

import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const build = resolve(process.argv[2])

// file: the file that is mutated; unit: the .cu that includes it; test: of kernel_test; `from` must
// occur once, with any white space between its words.
const mutations = [
  {
    what: 'deleted barrier of the ring of stages',
    file: 'native/cuda/gemm.cuh',
    unit: 'native/cuda/matrix_product_fma.cu',
    test: 'linear',
    from: 'copy_async_wait<kStages - 2>();\n    block_sync();',
    to: 'copy_async_wait<kStages - 2>();',
  },
  {
    what: 'wait for one group too few',
    file: 'native/cuda/gemm.cuh',
    unit: 'native/cuda/matrix_product_fma.cu',
    test: 'linear',
    from: 'copy_async_wait<kStages - 2>();',
    to: 'copy_async_wait<kStages - 1>();',
  },
  {
    what: 'swapped registers of mma',
    file: 'native/cuda/gemm_mma.cuh',
    unit: 'native/cuda/matrix_product_mma.cu',
    test: 'linear',
    from: 'first[2] = {b[0], b[1]}',
    to: 'first[2] = {b[1], b[0]}',
  },
  {
    what: 'operand that is not K-major, loaded as if it were',
    file: 'native/cuda/gemm_mma.cuh',
    unit: 'native/cuda/matrix_product_mma.cu',
    test: 'rounded_products',
    from: 'ldmatrix_x4_transposed(r,',
    to: 'ldmatrix_x4(r,',
  },
  {
    what: 'units of a run permuted over its end',
    file: 'native/cuda/gemm_mma.cuh',
    unit: 'native/cuda/matrix_product_mma.cu',
    test: 'rounded_products',
    from: 'kKMajor ? run / 2 % 4',
    to: 'kKMajor ? run / 2 % 8',
  },
  {
    what: 'lanes of TF32 loaded along the wrong side',
    file: 'native/cuda/gemm_mma.cuh',
    unit: 'native/cuda/matrix_product_mma.cu',
    test: 'rounded_products',
    from: 'const int at = row(m) + l / 4;',
    to: 'const int at = row(m) + l % 8;',
  },
  {
    what: 'TF32 cut off instead of rounded',
    file: 'native/cuda/gemm_mma.cuh',
    unit: 'native/cuda/matrix_product_mma.cu',
    test: 'rounded_products',
    from: 'r[m] = round_to_tf32(r[m]);',
    to: 'r[m] &= 0xffffe000u;',
  },
  {
    what: 'chunk of the tensor before it',
    file: 'native/cuda/tensor_list.cuh',
    unit: 'native/ops/compute_operand.cu',
    test: 'rounded_products',
    from: 'if (list.end[middle] > chunk) {',
    to: 'if (list.end[middle] >= chunk) {',
  },
  {
    what: 'element past the end of a tensor',
    file: 'native/cuda/tensor_list.cuh',
    unit: 'native/ops/compute_operand.cu',
    test: 'rounded_products',
    from: 'i < end; i += kThreads) at(i, Width<1>{});',
    to: 'i <= end; i += kThreads) at(i, Width<1>{});',
  },
  {
    what: 'float16 taken for bfloat16',
    file: 'native/ops/compute_operand.cu',
    test: 'rounded_products',
    from: 'v->dtype == DType::bf16) continue;',
    to: 'v->dtype != DType::f32) continue;',
  },
  {
    what: 'weight of a gradient that is not rounded',
    file: 'native/ops/linear.cu',
    test: 'rounded_products',
    from: 'a.dx ? &rounded.weight : nullptr',
    to: 'nullptr',
  },
  {
    what: 'deleted barrier before the sums of the warps are added',
    file: 'native/cuda/few_rows_product.cuh',
    unit: 'native/ops/linear.cu',
    test: 'linear',
    from: 'block_sync();\n  const int i',
    to: 'const int i',
  },
  {
    what: 'row of x after the last',
    file: 'native/cuda/few_rows_product.cuh',
    unit: 'native/ops/linear.cu',
    test: 'linear',
    from: 'row0 + r < p.rows',
    to: 'row0 + r <= p.rows',
  },
  {
    what: 'operand of few rows that is not rounded',
    file: 'native/cuda/rounded_float.cuh',
    unit: 'native/ops/linear.cu',
    test: 'rounded_products',
    from: 'widen(narrow<BFloat16>(x.v))',
    to: 'x.v',
  },
  {
    what: 'relaxed last block',
    file: 'native/cuda/last_block.cuh',
    unit: 'native/ops/embedding_bag.cu',
    test: 'tables',
    from: 'atomic_add_acq_rel(arrived, 1u, site)',
    to: '::simt::atomic(::simt::Atomic::add, arrived, 4, 1, false, site)',
  },
  {
    what: 'counter of blocks that is not reset',
    file: 'native/cuda/last_block.cuh',
    unit: 'native/ops/embedding_bag.cu',
    test: 'tables',
    from: 'if (shared.is_last) *arrived = 0;',
    to: '',
  },
  {
    what: 'list of a chunk that is not reversed',
    file: 'native/ops/product_key_combine.cuh',
    unit: 'native/ops/product_key_lookup.cu',
    test: 'lookup',
    from: 'kWarp + kWarp - 1 - lane()]',
    to: 'kWarp + lane()]',
  },
  {
    what: 'pair of a row that is left out',
    file: 'native/ops/product_key_combine.cuh',
    unit: 'native/ops/product_key_lookup.cu',
    test: 'lookup',
    from: 'next += wins ? 1 : 0;',
    to: 'next += wins ? 2 : 0;',
  },
  {
    what: 'row one element too long',
    file: 'native/cuda/rows.cuh',
    unit: 'native/ops/softmax.cu',
    test: 'rows',
    from: 'first + j * kSize < count',
    to: 'first + j * kSize <= count',
  },
  {
    what: 'shuffle from the wrong lane',
    file: 'native/cuda/select.cuh',
    unit: 'native/ops/topk.cu',
    test: 'topk',
    from: 'shuffle(key, kWarp - 1 - lane())',
    to: 'shuffle(key, kWarp - 2 - lane())',
  },
  {
    what: 'halves of a tile that are merged with themselves',
    file: 'native/ops/half_lists.cuh',
    unit: 'native/ops/product_key_lookup.cu',
    test: 'lookup',
    from: 'merge_sorted(sorted[word], sorted[word + words])',
    to: 'merge_sorted(sorted[word], sorted[words])',
  },
  {
    what: 'buffer filled again before all have read it',
    file: 'native/cuda/select.cuh',
    unit: 'native/ops/topk.cu',
    test: 'topk',
    from: 'warp_sync();  // before the buffer is filled again',
    to: '',
  },
  {
    what: 'state of a row updated before all lanes have read it',
    file: 'native/optim/sparse_update.cu',
    test: 'tables',
    from: 'warp_sync();  // all lanes have read the state',
    to: '',
  },
  {
    what: 'squares of the first slice only',
    file: 'native/optim/sparse_update.cu',
    test: 'tables',
    from: 'squares[slice * capacity + r]',
    to: 'squares[r]',
  },
  {
    what: 'visits past the last touched row among the others',
    file: 'native/ops/row_visits.cuh',
    unit: 'native/optim/sparse_update.cu',
    test: 'tables',
    from: ': kTokenBlocks * kTokenBlocks;',
    to: ': 0;',
  },
  {
    what: 'row visited twice',
    file: 'native/ops/row_visits.cuh',
    unit: 'native/optim/sparse_update.cu',
    test: 'tables',
    from: '<< 32 | static_cast<uint64_t>(r);',
    to: '<< 32 | static_cast<uint64_t>(r & ~int64_t{1});',
  },
  {
    what: 'rule read before it is there',
    file: 'native/optim/sparse_update.cu',
    test: 'tables',
    from: 'Rule(with_rate(hyper, rate), next_step(*step));\n  block_sync();',
    to: 'Rule(with_rate(hyper, rate), next_step(*step));',
  },
  {
    what: 'butterfly with the wrong start',
    file: 'native/cuda/select.cuh',
    unit: 'native/ops/topk.cu',
    test: 'topk',
    from: 'for (int bits = kWarp / 2; bits > 0; bits /= 2) key = exchange(key, bits, true);',
    to: 'for (int bits = kWarp / 4; bits > 0; bits /= 2) key = exchange(key, bits, true);',
  },
  {
    what: 'deleted warp_sync',
    file: 'native/cuda/select.cuh',
    unit: 'native/ops/topk.cu',
    test: 'topk',
    from: '    warp_sync();\n    const uint64_t sorted',
    to: '    const uint64_t sorted',
  },
  {
    what: 'barrier weakened to the warp',
    file: 'native/cuda/column_sums.cuh',
    unit: 'native/ops/linear.cu',
    test: 'linear',
    from: 's.v[warp_of_block()][lane()] = sum;\n  block_sync();',
    to: 's.v[warp_of_block()][lane()] = sum;\n  warp_sync();',
  },
  {
    what: 'misaligned vector store',
    file: 'native/cuda/product_kernel.cuh',
    unit: 'native/cuda/matrix_product_fma.cu',
    test: 'linear',
    from:
      '(ldc | columns) % 4 == 0 && (reinterpret_cast<uintptr_t>(c) | ' +
      'reinterpret_cast<uintptr_t>(bias)) % 16 == 0',
    to: 'columns % 4 == 0',
  },
  {
    what: 'tile stored before all threads have written it',
    file: 'native/cuda/product_kernel.cuh',
    unit: 'native/cuda/matrix_product_fma.cu',
    test: 'linear',
    from: 'block_sync();\n    vec4 ?',
    to: 'warp_sync();\n    vec4 ?',
  },
  {
    what: 'splits added by a block that may not be the last',
    file: 'native/cuda/product_kernel.cuh',
    unit: 'native/cuda/matrix_product_fma.cu',
    test: 'linear',
    from: 'arrives_last(guard, shared<LastBlock>(), blockIdx.x, gridDim.y)',
    to: 'blockIdx.y == gridDim.y - 1',
  },
  {
    what: 'a tile of the next group',
    file: 'native/cuda/product_kernel.cuh',
    unit: 'native/cuda/matrix_product_fma.cu',
    test: 'groups',
    from: '(groups.offsets[middle] / kTile + middle <= tile ? low : high) = middle',
    to: '(groups.offsets[middle] / kTile + middle < tile ? low : high) = middle',
  },
  {
    what: 'too few tiles for groups that end within one',
    file: 'native/cuda/product_kernel.cuh',
    unit: 'native/cuda/matrix_product_fma.cu',
    test: 'groups',
    from: '(p.M / tile + p.groups.count)',
    to: '(p.M / tile + 1)',
  },
  {
    what: 'rows of the group behind it',
    file: 'native/cuda/product_kernel.cuh',
    unit: 'native/cuda/matrix_product_fma.cu',
    test: 'groups',
    from: 't.rows = groups.offsets[low + 1];',
    to: 't.rows = groups.offsets[low + 1] + 1;',
  },
  {
    what: 'sums of the chunk before overwritten',
    file: 'native/ops/grouped_linear.cu',
    test: 'groups',
    from: 'total += sum;\n    }\n    block_sync();',
    to: 'total += sum;\n    }',
  },
  {
    what: 'offset of a group behind the first that is chosen',
    file: 'native/ops/group_by_index.cu',
    test: 'groups',
    from: 'chosen.rows[middle] < g',
    to: 'chosen.rows[middle] <= g',
  },
  {
    what: 'a batch counted for each of its entries',
    file: 'native/ops/slot_usage.cu',
    test: 'counts',
    from: 'atomic_min(batch.marks + slot, batch.mark) > batch.mark',
    to: 'atomic_min(batch.marks + slot, batch.mark) >= batch.mark',
  },
  {
    what: 'one chunk too many',
    file: 'native/ops/embedding_bag.cu',
    test: 'tables',
    from: 'for (int c = 1; c < chunks; ++c)',
    to: 'for (int c = 1; c <= chunks; ++c)',
  },
  {
    what: 'weight of the next bag, which another lane group writes',
    file: 'native/ops/embedding_bag.cu',
    test: 'tables',
    from: 'if (i < span.end) dweights[i]',
    to: 'if (i <= span.end) dweights[i]',
  },
  {
    what: 'mask with the own lane',
    file: 'native/ops/sparse_grad.cu',
    test: 'tables',
    from: 'popcount(begins & lanes_below())',
    to: 'popcount(begins & (lanes_below() * 2 + 1))',
  },
  {
    what: 'chunks that overlap by an entry',
    file: 'native/ops/sparse_grad.cu',
    test: 'tables',
    from: 'end = begin + kHotEntries < last ? begin + kHotEntries : last;',
    to: 'end = begin + kHotEntries < last ? begin + kHotEntries + 1 : last;',
  },
  {
    what: 'deleted barrier between products and sums',
    file: 'native/ops/peer.cu',
    test: 'experts',
    from: '  block_sync();\n  add_experts<Slice>(t, e, out,',
    to: '  add_experts<Slice>(t, e, out,',
  },
  {
    what: 'head one element too wide',
    file: 'native/ops/attention_tile.cuh',
    unit: 'native/ops/attention.cu',
    test: 'attention',
    from: 'if (c0 + c < d)',
    to: 'if (c0 + c <= d)',
  },
  {
    what: 'key after the last that a query sees',
    file: 'native/ops/attention.cu',
    test: 'attention',
    from: 'column < seen(',
    to: 'column <= seen(',
  },
  {
    what: 'key that its own query does not see',
    file: 'native/ops/attention_backward.cu',
    test: 'attention',
    from: 't0 + column >= first_query(',
    to: 't0 + column > first_query(',
  },
  {
    what: 'deleted barrier of the ring of keys',
    file: 'native/ops/attention_tile.cuh',
    unit: 'native/ops/attention.cu',
    test: 'attention',
    from: 'copy_async_wait<kStages - 2>(); block_sync();',
    to: 'copy_async_wait<kStages - 2>();',
  },
  {
    what: 'deleted warp_sync before weights are overwritten',
    file: 'native/ops/attention_backward.cu',
    test: 'attention',
    from: 'warp_sync();',
    to: '',
  },
  {
    what: 'sums that are not rescaled to the new maximum',
    file: 'native/ops/attention.cu',
    test: 'attention',
    from: 'y[i][c] *= rescale;',
    to: 'y[i][c] *= 1;',
  },
  {
    what: 'deleted warp_sync before the lists are read',
    file: 'native/ops/product_key_combine.cuh',
    unit: 'native/ops/product_key_lookup.cu',
    test: 'lookup',
    from: '    warp_sync();\n    const bool nan',
    to: '    const bool nan',
  },
  {
    what: 'token that the strip before it rotates',
    file: 'native/ops/rope.cu',
    test: 'sequences',
    from: 'token = item / (packs * groups);',
    to: 'token = item / (packs * groups + 1);',
  },
  {
    what: 'mask of the next four elements',
    file: 'native/ops/dropout.cu',
    test: 'sequences',
    from: 'philox(static_cast<uint64_t>(g), seed',
    to: 'philox(static_cast<uint64_t>(g + 1), seed',
  },
  {
    what: 'row of the table one element too early',
    file: 'native/ops/embedding.cu',
    test: 'sequences',
    from: '(given ? index : 0) * width + i % width',
    to: '(given ? index : 0) * width + i % width - (i == 0)',
  },
  {
    what: 'deleted barrier before the sums of the warps are read',
    file: 'native/ops/multinomial.cu',
    test: 'sequences',
    from: 's.v[warp_of_block()] = sum;\n    block_sync();',
    to: 's.v[warp_of_block()] = sum;\n    warp_sync();',
  },
  {
    what: 'inclusive sum that skips a lane',
    file: 'native/ops/multinomial.cu',
    test: 'sequences',
    from: 'if (lane() >= distance) v += before;',
    to: 'if (lane() > distance) v += before;',
  },
  {
    what: 'one choice more than top_k',
    file: 'native/ops/multinomial.cu',
    test: 'sequences',
    from: 's, plus) >= wanted) digit = d;',
    to: 's, plus) > wanted) digit = d;',
  },
  {
    what: 'variance that counts what is past the row',
    file: 'native/ops/layer_norm.cu',
    test: 'layer_norms',
    from: 'group.for_inside(begin, [&](int i) { squares',
    to: 'group.for_loaded(begin, [&](int i) { squares',
  },
  {
    what: 'mean of the next row',
    file: 'native/cuda/column_sums.cuh',
    unit: 'native/ops/layer_norm.cu',
    test: 'layer_norms',
    from: 'x - a.means[r]',
    to: 'x - a.means[r + 1 < a.rows ? r + 1 : r]',
  },
  {
    what: 'taps overwritten while they are in use',
    file: 'native/ops/causal_conv1d.cu',
    test: 'convolution',
    from: 'block_sync();  // the taps before are used up',
    to: '',
  },
  {
    what: 'token of the future',
    file: 'native/ops/causal_conv1d.cu',
    test: 'convolution',
    from: '(j0 - (a.width - 1) + m) * a.dilation;',
    to: '(j0 - (a.width - 2) + m) * a.dilation;',
  },
  {
    what: 'chunk of dweight that is left out',
    file: 'native/ops/causal_conv1d.cu',
    test: 'convolution',
    from: 'for (int64_t c = 0; c < chunks; ++c) sum +=',
    to: 'for (int64_t c = 1; c < chunks; ++c) sum +=',
  },
  {
    what: 'deleted barrier of the tile',
    file: 'native/cuda/strided_copy.cu',
    test: 'boxes',
    from: 'block_sync();\n  for (int i = warp_of_block(); i < kWarp',
    to: 'for (int i = warp_of_block(); i < kWarp',
  },
  {
    what: 'words that cross the end of a run',
    file: 'native/cuda/strided_copy.cu',
    test: 'boxes',
    from: 'box.size[inner] * width % word == 0;',
    to: 'true;',
  },
  {
    what: 'axis that is broadcast walked with the stride of the other operand',
    file: 'native/ops/arithmetic.cu',
    test: 'axes',
    from: 'y.pack<n>(offset[1], loops.stride[1][last] == 0)',
    to: 'y.pack<n>(offset[0], loops.stride[1][last] == 0)',
  },
  {
    what: 'chunk one element too long',
    file: 'native/ops/reduce.cu',
    test: 'axes',
    from: 'end = begin + lanes * kReduceLaneElements;',
    to: 'end = begin + lanes * kReduceLaneElements + 1;',
  },
  {
    what: 'results of warps read before all are written',
    file: 'native/ops/reduce.cu',
    test: 'axes',
    from: 's.v[warp_of_block()][lane()] = v;\n  block_sync();',
    to: 's.v[warp_of_block()][lane()] = v;\n  warp_sync();',
  },
  {
    what: 'last instead of first match',
    file: 'native/ops/reduce.cu',
    test: 'axes',
    from: 'return b < a ? b : a;',
    to: 'return b < a || a == kNone ? b : b == kNone ? a : b;',
  },
  {
    what: 'gradient that forgets the batch it is summed over',
    file: 'native/ops/matmul.cu',
    test: 'matmul',
    from: '.accumulate = s > 0,',
    to: '.accumulate = false,',
  },
  {
    what: 'targets that no thread counts',
    file: 'native/ops/target_weights.cu',
    test: 'rows',
    from: 't < tokens; t += blockDim.x)',
    to: 't < tokens; t += 2 * blockDim.x)',
  },
  {
    what: 'plain minimum for an atomic',
    file: 'native/cuda/checks.cu',
    test: 'faults',
    from: 'if (lowest != kNoPosition) atomic_min(&state->candidate, lowest);',
    to: 'if (lowest < state->candidate) state->candidate = lowest;',
  },
  {
    what: 'plain += for the last arriver',
    file: 'native/cuda/checks.cu',
    test: 'faults',
    from: 'atomic_add_acq_rel(&state->arrived, 1u)',
    to: 'state->arrived++',
  },
  {
    what: 'relaxed last arriver',
    file: 'native/cuda/checks.cu',
    test: 'faults',
    from: 'atomic_add_acq_rel(&state->arrived, 1u)',
    to: '::simt::atomic(::simt::Atomic::add, &state->arrived, 4, 1, false, CallSite::here())',
  },
]

const commands = JSON.parse(readFileSync(join(build, 'compile_commands.json'), 'utf8'))

function objects(target) {
  return commands
    .filter((c) => c.output?.includes(`/${target}.dir/`) || c.command.includes(`/${target}.dir/`))
    .map((c) => ({
      file: c.file,
      directory: c.directory,
      command: c.command,
      output: resolve(c.directory, / -o (\S+)/.exec(c.command)[1]),
    }))
}

const units = objects('ml_simt')
const others = ['ml_core', 'simt_emulator', 'kernel_test'].flatMap(objects).map((c) => c.output)

function run(command, options = {}) {
  return new Promise((done) => {
    const child = spawn('bash', ['-c', command], { stdio: ['ignore', 'pipe', 'pipe'], ...options })
    let output = ''
    child.stdout.on('data', (data) => (output += data))
    child.stderr.on('data', (data) => (output += data))
    child.on('close', (status, signal) =>
      done({ ok: status === 0, output: signal ? `${output}(${signal})` : output }),
    )
  })
}

const anySpace = (text) =>
  new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/\s+/g, '\\s+'), 'g')

// Whether the mistake was caught; throws where it could not be tried.
async function caught(mutation, number) {
  const folder = join(build, 'mutants', String(number))
  rmSync(folder, { recursive: true, force: true }) // another mistake's files, of a run before
  const text = readFileSync(join(root, mutation.file), 'utf8')
  const from = anySpace(mutation.from)
  if (text.match(from)?.length !== 1)
    throw new Error(`${mutation.file} has not exactly one: ${mutation.from}`)
  const copy = join(folder, mutation.file.replace(/^native\//, ''))
  mkdirSync(dirname(copy), { recursive: true })
  writeFileSync(
    copy,
    text.replace(from, () => mutation.to),
  )

  const unit = units.find((u) => u.file.endsWith(`/${mutation.unit ?? mutation.file}`))
  const object = join(folder, 'unit.o')
  const source = mutation.unit ? unit.file : copy
  const compile = unit.command
    .replace(/ -o \S+ -c .*$/, ` -I${folder} -o ${object} -c ${source}`)
    .replace(/^(\S*ccache )?(\S+)/, `$1$2 -I${folder}`)
  const compiled = await run(compile, { cwd: unit.directory })
  if (!compiled.ok) throw new Error(compiled.output.slice(0, 2000))

  const program = join(folder, 'kernel_test')
  // The mutated unit first: of an inline function in several units, the linker keeps the first
  // definition.
  const linked = [object, ...units.filter((u) => u !== unit).map((u) => u.output)]
  execFileSync('c++', [...linked, ...others, '-pthread', '-o', program])
  const result = await run(`${program} ${mutation.test}`, { timeout: 60_000 })
  return { caught: !result.ok, output: result.output }
}

let passed = 0
let failed = 0
let next = 0

async function worker() {
  while (next < mutations.length) {
    const number = next++
    const mutation = mutations[number]
    try {
      const { caught: ok, output } = await caught(mutation, number)
      ok ? passed++ : failed++
      const said = output.split('\n')[0]
      console.log(`${ok ? 'caught' : 'NOT CAUGHT'}: ${mutation.what} (${mutation.file}): ${said}`)
    } catch (error) {
      failed++
      console.log(`NOT TRIED: ${mutation.what}: ${error.message}`)
    }
  }
}

await Promise.all([worker(), worker()])
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
