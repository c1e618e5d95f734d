// Entries by what they choose, each group in the order of its entries; -1 is padding.

export function groupByIndex(indices: ArrayLike<number>, bagSize: number, groups: number) {
  const order: number[] = []
  const offsets = [0]
  for (let g = 0; g < groups; g++) {
    for (let i = 0; i < indices.length; i++) if (indices[i] === g) order.push(i)
    offsets.push(order.length)
  }
  const positions = Array.from(indices, (_, i) => order.indexOf(i))
  const bags = order.map((i) => Math.floor(i / bagSize))
  while (order.length < indices.length) {
    order.push(-1)
    bags.push(-1)
  }
  return { order, bags, positions, offsets }
}
