// Tables and numbers of the report.

export interface Table {
  head: string[]
  rows: string[][]
}

export function table({ head, rows }: Table): string {
  const all = [head, ...rows]
  const widths = head.map((_, c) => Math.max(3, ...all.map((row) => row[c]!.length)))
  const line = (row: string[]) => `| ${row.map((cell, c) => cell.padEnd(widths[c]!)).join(' | ')} |`
  const rule = `| ${widths.map((w) => '-'.repeat(w)).join(' | ')} |`
  return [line(head), rule, ...rows.map(line)].join('\n')
}

export const percent = (share: number) => `${(100 * share).toFixed(2)} %`

export const number = (n: number) => n.toLocaleString('en')
