// An example as one line of OpenAI's training files: a prompt and its completion, or a question and its answer.
import { checkExample, type ExampleLimits } from './datasets.ts'
import type { Example } from './example.ts'

const layouts = '{"prompt", "completion"}, {"messages": [user, assistant]} or {"input", "output"}'

/** As `checkExample`, of which it is another reading: the reason where the line is none of the three layouts. */
export function readTrainingLine(value: unknown, limits: ExampleLimits): Example | string {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return `must be an object: ${layouts}`
  const fields = value as Record<string, unknown>
  if ('messages' in fields) return readConversation(fields, limits)
  if ('input' in fields || 'output' in fields) return checkExample(value, limits)
  if (!('prompt' in fields) && !('completion' in fields)) return `must be one of ${layouts}`
  return readPair(fields, limits)
}

function readPair({ prompt, completion, ...rest }: Record<string, unknown>, limits: ExampleLimits): Example | string {
  const [unknown] = Object.keys(rest)
  if (unknown !== undefined) return `unknown field ${shown(unknown)}`
  if (prompt === undefined) return 'prompt is missing'
  if (completion === undefined) return 'completion is missing'
  return renamed(checkExample({ input: prompt, output: completion }, limits), 'prompt', 'completion')
}

/** One turn alone: a prefix has a template for what stands around it. */
function readConversation({ messages, ...rest }: Record<string, unknown>, limits: ExampleLimits): Example | string {
  const [unknown] = Object.keys(rest)
  if (unknown !== undefined) return `unknown field ${shown(unknown)} beside messages`
  if (!Array.isArray(messages)) return 'messages must be a list'
  const roles = messages.map((message: unknown) => (message as { role?: unknown } | null)?.role)
  if (roles.length !== 2 || roles[0] !== 'user' || roles[1] !== 'assistant') {
    const came = roles.slice(0, 8).map((role) => (typeof role === 'string' ? role.slice(0, 40) : 'no role'))
    return `messages must be one of user and one of assistant, not [${came.join(', ')}${roles.length > 8 ? ', …' : ''}]`
  }
  for (const [i, message] of messages.entries()) {
    const other = Object.keys(message as object).find((name) => name !== 'role' && name !== 'content')
    if (other !== undefined) return `unknown field ${shown(other)} in messages[${i}]`
  }
  const [user, assistant] = messages as { content?: unknown }[]
  const example = { input: user?.content ?? null, output: assistant?.content ?? null }
  return renamed(checkExample(example, limits), 'messages[0].content', 'messages[1].content')
}

/** A reason begins with the name of the text that it is about. */
function renamed(read: Example | string, input: string, output: string): Example | string {
  return typeof read === 'string' ? read.replace(/^input\b/, input).replace(/^output\b/, output) : read
}

function shown(name: string): string {
  return JSON.stringify(name.slice(0, 100))
}
