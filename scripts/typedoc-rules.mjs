// What public doc comments must say beyond being there: which errors a call throws, in `ops` the
// shapes of its tensors; and properties need one too.

import { Converter, ReflectionKind } from 'typedoc'

/** The comment's text with its block tags, or an empty string. */
function textOf(comment) {
  if (!comment) return ''
  const parts = [
    ...comment.summary,
    ...comment.blockTags.flatMap((tag) => [{ text: `${tag.tag} ` }, ...tag.content]),
  ]
  return parts.map((p) => p.text).join('')
}

export function load(app) {
  app.converter.on(Converter.EVENT_RESOLVE_END, (context) => {
    for (const signature of context.project.getReflectionsByKind(ReflectionKind.CallSignature)) {
      const owner = signature.parent
      const isOperation = owner?.parent?.name === 'ops' && owner.kindOf(ReflectionKind.Function)
      if (!isOperation) continue
      const text = [signature, owner, ...(signature.parameters ?? [])]
        .map((r) => textOf(r.comment))
        .join(' ')
      if (!text.includes('@throws'))
        app.logger.warn(`${owner.getFullName()} does not say which errors it throws`)
      if (!/\[[^\]]*\]|elementwise|linear|\{@link/.test(text))
        app.logger.warn(`${owner.getFullName()} does not say the shapes of its tensors`)
    }
    for (const property of context.project.getReflectionsByKind(ReflectionKind.Property)) {
      // Members of an inline type are told by the comment of what they belong to.
      const public_ =
        !property.flags.isProtected &&
        property.parent.kindOf([ReflectionKind.Class, ReflectionKind.Interface])
      if (public_ && !property.inheritedFrom && !property.comment?.hasVisibleComponent())
        app.logger.warn(`${property.getFullName()} has no documentation`)
    }
    for (const made of context.project.getReflectionsByKind(ReflectionKind.ConstructorSignature)) {
      if (!made.parent.parent.kindOf(ReflectionKind.Class)) continue
      if (!textOf(made.comment).includes('@throws'))
        app.logger.warn(`${made.getFullName()} does not say which errors it throws`)
    }
  })
}
