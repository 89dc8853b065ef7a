// Why a file is not taken for safetensors.

export type SafetensorsErrorKind =
  | 'truncated'
  | 'header_too_long'
  | 'header_not_utf8'
  | 'header_not_json'
  | 'header_not_object'
  | 'duplicate_key'
  | 'too_many_tensors'
  | 'metadata_invalid'
  | 'name_invalid'
  | 'entry_invalid'
  | 'dtype_unknown'
  | 'shape_invalid'
  | 'offsets_invalid'
  | 'size_mismatch'
  | 'overlap'
  | 'hole'
  | 'trailing_bytes'

/** Whoever reads the file says what it means: a model or a prefix that is not valid. */
export class SafetensorsError extends Error {
  readonly kind: SafetensorsErrorKind

  constructor(kind: SafetensorsErrorKind, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'SafetensorsError'
    this.kind = kind
  }
}
