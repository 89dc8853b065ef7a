// Text to token ids and back, as the model's own tokenizer files say.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { ServiceError } from '../errors/errors.ts'

/** Ends a text in GPT-2's vocabulary. */
export const endOfTextToken = '<|endoftext|>'
/** BART's special tokens: begin, padding, end, unknown and mask. They are no text. */
const bartSpecialTokens = ['<s>', '<pad>', '</s>', '<unk>', '<mask>']
const bartEndToken = '</s>'

export interface Tokenizer {
  /** The name of a special token inside the text becomes that token. */
  encode(text: string): number[]
  /** Bytes that are no whole character become U+FFFD. Special tokens are left out. */
  decode(tokens: readonly number[]): string
  /** Id of the token that ends a text. */
  readonly endOfText: number
  /** Names of the tokens that are no text, that one among them. */
  readonly special: ReadonlyMap<number, string>
  readonly vocabulary: number
  /** Over the files it was read from. */
  readonly sha256: string
}

/** Reads `tokenizer.json`, or `vocab.json` and `merges.txt`. Throws `model_invalid`. */
export async function openTokenizer(folder: string): Promise<Tokenizer> {
  const { definition, sha256 } = (await readDefinition(folder)) ?? (await readPairOfFiles(folder))
  const tokenizer = new HuggingFaceTokenizer(definition, {})
  const special = specialTokens(tokenizer)
  const endOfText = [...special.keys()].find((id) => endTokens.has(special.get(id) ?? ''))
  if (endOfText === undefined)
    throw new ServiceError('model_invalid', `the tokenizer in ${folder} has no token ${[...endTokens].join(' or ')}`)
  return {
    endOfText,
    special,
    sha256,
    vocabulary: tokenizer.get_vocab().size,
    encode: (text) => tokenizer.encode(text, { add_special_tokens: false }).ids,
    decode: (tokens) => {
      const kept = tokens.filter((token) => !special.has(token))
      return kept.length === 0
        ? ''
        : tokenizer.decode(kept, { skip_special_tokens: false, clean_up_tokenization_spaces: false })
    },
  }
}

const endTokens: ReadonlySet<string> = new Set([endOfTextToken, bartEndToken])

/** All of BART's, or GPT-2's one, which BART's vocabulary has too and does not use. */
function specialTokens(tokenizer: Pick<HuggingFaceTokenizer, 'token_to_id'>): Map<number, string> {
  const names = namesOfSpecial((token) => tokenizer.token_to_id(token) !== undefined)
  return new Map(names.map((token) => [tokenizer.token_to_id(token) as number, token]))
}

function namesOfSpecial(has: (token: string) => boolean): readonly string[] {
  return bartSpecialTokens.every(has) ? bartSpecialTokens : [endOfTextToken].filter(has)
}

interface Definition {
  readonly definition: object
  readonly sha256: string
}

async function readDefinition(folder: string): Promise<Definition | null> {
  const bytes = await readIfThere(path.join(folder, 'tokenizer.json'))
  return bytes && { definition: parseJson(bytes, path.join(folder, 'tokenizer.json')), sha256: sha256Of(bytes) }
}

/** GPT-2's older pair of files, which BART has too, put together as the byte-level BPE that they mean (Radford et al. 2019, section 2.2). */
async function readPairOfFiles(folder: string): Promise<Definition> {
  const [vocab, merges] = await Promise.all([
    readIfThere(path.join(folder, 'vocab.json')),
    readIfThere(path.join(folder, 'merges.txt')),
  ])
  if (vocab === null || merges === null) {
    throw new ServiceError('model_invalid', `${folder} has neither tokenizer.json nor vocab.json and merges.txt`)
  }
  const ids = parseJson(vocab, path.join(folder, 'vocab.json')) as Record<string, number>
  const lines = merges
    .toString('utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#version'))
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
  const definition = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: namesOfSpecial((token) => token in ids).map((content) => {
      return { id: ids[content], content, ...addedToken }
    }),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: byteLevel,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      vocab: ids,
      merges: lines,
    },
  }
  return { definition, sha256: sha256Of(vocab, merges) }
}

/** Found in a text before it is cut into words. */
const addedToken = { special: true, normalized: false, lstrip: false, rstrip: false, single_word: false }

async function readIfThere(file: string): Promise<Buffer | null> {
  try {
    return await readFile(file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw new ServiceError('model_invalid', `cannot read ${file}`, {}, { cause: error })
  }
}

function parseJson(bytes: Buffer, file: string): object {
  try {
    return JSON.parse(bytes.toString('utf8')) as object
  } catch (error) {
    throw new ServiceError('model_invalid', `${file} is not JSON: ${(error as Error).message}`, {}, { cause: error })
  }
}

function sha256Of(...parts: readonly Buffer[]): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}
