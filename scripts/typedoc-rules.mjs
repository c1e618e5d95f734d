// What public doc comments must say beyond being there: which errors a call throws, in `ops` the
// shapes of its tensors; and properties need one too.

import { Converter, ReflectionKind } from 'typedoc'

/** The comment's text with its block tags, or an empty string. */
function textOf(comment) {
  if (!comment) return ''
  const texts = [
    ...comment.summary,
    ...comment.blockTags.flatMap((tag) => [{ text: `${tag.tag} ` }, ...tag.content]),
  ]
  return texts.map((t) => t.text).join('')
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
      // The comment of what an inline type belongs to describes its members.
      const isPublic =
        !property.flags.isProtected &&
        property.parent.kindOf([ReflectionKind.Class, ReflectionKind.Interface])
      if (isPublic && !property.inheritedFrom && !property.comment?.hasVisibleComponent())
        app.logger.warn(`${property.getFullName()} has no documentation`)
    }
    for (const signature of context.project.getReflectionsByKind(
      ReflectionKind.ConstructorSignature,
    )) {
      if (!signature.parent.parent.kindOf(ReflectionKind.Class)) continue
      if (!textOf(signature.comment).includes('@throws'))
        app.logger.warn(`${signature.getFullName()} does not say which errors it throws`)
    }
  })
}
