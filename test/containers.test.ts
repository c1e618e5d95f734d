// The limits of a container, from files as the kernel writes them.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { native } from '../lib/binding.js'
import { openDevice } from '../lib/index.js'

const none = { memory: 2 ** 63, cores: Number.POSITIVE_INFINITY }
const unlimitedV1 = '9223372036854771712\n'
const mib = 2 ** 20

function limitsOf(files: Record<string, string>): { memory: number; cores: number } {
  const root = mkdtempSync(join(tmpdir(), 'memory-layers-container-'))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true })
    writeFileSync(join(root, name), text)
  }
  const limits = native.containerLimits(root)
  rmSync(root, { recursive: true })
  return limits
}

const mountV2 = '29 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n'

test.each([
  ['no control groups', {}, none],
  [
    'version 2, the limit of the group itself',
    {
      'proc/self/mountinfo': `22 1 8:1 / / rw - ext4 /dev/sda1 rw\n${mountV2}`,
      'proc/self/cgroup': '0::/\n',
      'sys/fs/cgroup/memory.max': '419430400\n',
      'sys/fs/cgroup/cpu.max': '150000 100000\n',
    },
    { memory: 400 * mib, cores: 1.5 },
  ],
  [
    'version 2, the smallest limit of the groups around it',
    {
      'proc/self/mountinfo': mountV2,
      'proc/self/cgroup': '0::/pods/pod7/main\n',
      'sys/fs/cgroup/pods/memory.max': '1048576000\n',
      'sys/fs/cgroup/pods/pod7/memory.max': '209715200\n',
      'sys/fs/cgroup/pods/pod7/cpu.max': '400000 100000\n',
      'sys/fs/cgroup/pods/pod7/main/memory.max': 'max\n',
      'sys/fs/cgroup/pods/pod7/main/cpu.max': 'max 100000\n',
    },
    { memory: 200 * mib, cores: 4 },
  ],
  [
    'version 2, mounted from a group of the host',
    {
      'proc/self/mountinfo': '900 800 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n',
      'proc/self/cgroup': '0::/docker/abc/app\n',
      'sys/fs/cgroup/memory.max': '52428800\n',
      'sys/fs/cgroup/app/memory.max': '104857600\n',
    },
    { memory: 50 * mib, cores: Number.POSITIVE_INFINITY },
  ],
  [
    'version 1, as Docker mounts it',
    {
      'proc/self/mountinfo':
        '30 25 0:27 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n' +
        '31 25 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n',
      'proc/self/cgroup': '9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n',
      'sys/fs/cgroup/memory/memory.limit_in_bytes': '314572800\n',
      'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '50000\n',
      'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': '100000\n',
    },
    { memory: 300 * mib, cores: 0.5 },
  ],
  [
    'version 1 without limits',
    {
      'proc/self/mountinfo': '30 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n',
      'proc/self/cgroup': '9:memory:/user.slice\n',
      'sys/fs/cgroup/memory/memory.limit_in_bytes': unlimitedV1,
      'sys/fs/cgroup/memory/user.slice/memory.limit_in_bytes': unlimitedV1,
    },
    none,
  ],
  [
    'both versions',
    {
      'proc/self/mountinfo':
        '30 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n' +
        '32 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n',
      'proc/self/cgroup': '9:memory:/a\n0::/a\n',
      'sys/fs/cgroup/memory/a/memory.limit_in_bytes': '104857600\n',
      'sys/fs/cgroup/unified/a/cpu.max': '200000 100000\n',
    },
    { memory: 100 * mib, cores: 2 },
  ],
  [
    'files that say something else',
    {
      'proc/self/mountinfo': `${mountV2}nonsense\n\n`,
      'proc/self/cgroup': '0::/\nnonsense\n:\n::\n',
      'sys/fs/cgroup/memory.max': 'nonsense\n',
      'sys/fs/cgroup/cpu.max': '\n',
    },
    none,
  ],
])('%s', (_, files, wanted) => {
  expect(limitsOf(files as Record<string, string>)).toEqual(wanted)
})

test('memory().total is that of the machine or, if that is less, of the container', () => {
  const { memory } = native.containerLimits('')
  const { total } = openDevice('cpu').memory()
  expect(total).toBeLessThanOrEqual(memory)
  expect(total).toBeGreaterThan(0)
})
