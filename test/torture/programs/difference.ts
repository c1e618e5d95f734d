/** What the package did and the interpreter did not, or the other way round. */
export class Difference extends Error {}
