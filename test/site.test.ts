// The documentation site, built, and read in a browser.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Browser, chromium, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const site = mkdtempSync(join(tmpdir(), 'memory-layers-site-'))
const executablePath = [
  process.env['CHROME_PATH'],
  '/usr/bin/chromium',
  '/usr/bin/google-chrome',
].find((p) => p && existsSync(p))
const types: Record<string, string> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
}

let build: ReturnType<typeof spawnSync>
beforeAll(() => {
  build = spawnSync(process.execPath, ['node_modules/typedoc/bin/typedoc', '--out', site], {
    cwd: root,
    encoding: 'utf8',
  })
}, 120_000)
afterAll(() => rmSync(site, { recursive: true, force: true }))

test('every public symbol is documented, and every link in a comment resolves', () => {
  expect(`${build.stdout}${build.stderr}`).toContain('html generated')
  expect(build.status).toBe(0)
})

test('no page links to a page that does not exist', () => {
  const pages = readdirSync(site, { recursive: true, encoding: 'utf8' }).filter((f) =>
    f.endsWith('.html'),
  )
  expect(pages.length).toBeGreaterThan(60)
  const broken: string[] = []
  for (const page of pages) {
    for (const [, target] of readFileSync(join(site, page), 'utf8').matchAll(
      /(?:href|src)="([^"#:]+)(?:#[^"]*)?"/g,
    )) {
      if (!existsSync(join(site, page, '..', decodeURIComponent(target!))))
        broken.push(`${page} -> ${target}`)
    }
  }
  expect(broken).toEqual([])
})

// CI installs a browser; a machine without one still builds the site and follows its links above.
describe.skipIf(!executablePath && !process.env['CI'])('in a browser', () => {
  let server: Server
  let browser: Browser
  let page: Page
  const errors: string[] = []

  beforeAll(async () => {
    server = createServer((request, response) => {
      const path = join(
        site,
        normalize(decodeURIComponent(new URL(request.url!, 'http://site').pathname)),
      )
      const file = path.endsWith('/') ? `${path}index.html` : path
      if (!existsSync(file)) return response.writeHead(404).end()
      return response
        .writeHead(200, { 'content-type': types[extname(file)] ?? 'application/octet-stream' })
        .end(readFileSync(file))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    browser = await chromium.launch({
      executablePath: executablePath ?? 'chromium',
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    })
    page = await browser.newPage({ viewport: { width: 1300, height: 900 } })
    page.on('pageerror', (e) => errors.push(e.message))
    page.on('response', (r) => {
      if (r.status() >= 400) errors.push(`${r.status()} ${r.url()}`)
    })
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
  }, 60_000)
  afterAll(async () => {
    await browser?.close()
    server?.close()
  })

  test('the first page is the README, with its pictures', async () => {
    expect(await page.locator('h1').first().textContent()).toContain('memory-layers')
    const pictures = await page
      .locator('.tsd-typography img')
      .evaluateAll((list) =>
        list.map((i) => (i as unknown as { naturalWidth: number }).naturalWidth),
      )
    expect(pictures.every((w) => w > 0)).toBe(true)
  })

  test('every guide opens from the navigation', async () => {
    const guides = [
      'Training',
      'Sharing tables',
      'Teach a trained model new facts',
      'Choosing sizes',
      'Devices and GPUs',
      'Memory and dispose',
      'Errors',
      'From PyTorch',
      'With TensorFlow.js',
      'Adding an operation',
    ]
    for (const guide of guides) {
      await page.locator('nav.tsd-navigation a', { hasText: guide }).first().click()
      await page.locator('h1', { hasText: guide }).first().waitFor()
    }
  })

  test('the reference of a layer shows its options, shapes and errors', async () => {
    await page.goto(new URL('/classes/memory-layers.MemoryLayer.html', page.url()).href)
    const text = (await page.locator('.col-content').textContent())!
    for (const wanted of [
      'forward',
      'backward',
      'stateDict',
      '[tokens, inputDim]',
      'ERR_CONTEXT',
      'Berges et al. 2024',
    ])
      expect(text).toContain(wanted)
  })

  test('the search finds an operation', async () => {
    await page.locator('#tsd-search-trigger').click()
    await page.locator('#tsd-search-input').fill('productKeyLookup')
    await page.locator('#tsd-search-results li', { hasText: 'productKeyLookup' }).first().waitFor()
  })

  test('no page had an error', () => {
    expect(errors).toEqual([])
  })
})
