// Plain text for terminals of 80 columns.

export const width = 80

/** Exits quietly once the reader of the output is gone, as in `memory-layers doctor | head -1`. */
export function exitOnClosedPipe(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    process.exit()
  })
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

export function printError(text: string): void {
  process.stderr.write(`${text}\n`)
}

/** A label in the first column and its text, wrapped, in the second. */
export function formatEntry(label: string, text: string, column = 12): string {
  const indent = ' '.repeat(column)
  return text
    .split('\n')
    .flatMap((line) => wrapText(line, width - column))
    .map((line, i) => (i === 0 ? label.padEnd(column) : indent) + line)
    .map((line) => line.trimEnd())
    .join('\n')
}

/**
 * Lines of at most `columns`, broken at spaces; a word that is longer, such as a path, stays whole.
 */
export function wrapText(text: string, columns: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line && line.length + 1 + word.length > columns) {
      lines.push(line)
      line = word
    } else {
      line = line ? `${line} ${word}` : word
    }
  }
  return [...lines, line]
}
