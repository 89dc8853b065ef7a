// Fits a linear layer to a few rows exactly, by the smallest weights that do it.

/** Added to the diagonal, relative to its mean, so that equal rows do not divide by zero. */
const ridge = 1e-6

/**
 * weight [hidden, columns] and bias [columns] with x·weight + bias ≈ y for x [rows, hidden] and y [rows, columns]:
 * bias is the mean of y, and weight = xᵀ·(x·xᵀ + λI)⁻¹·(y − bias), the minimum-norm solution of ridge regression.
 */
export function fitRows(
  x: Float64Array,
  y: Float64Array,
  rows: number,
): { readonly weight: Float32Array; readonly bias: Float32Array } {
  const [hidden, columns] = [x.length / rows, y.length / rows]
  const bias = new Float32Array(columns)
  for (let i = 0; i < y.length; i++) bias[i % columns] = (bias[i % columns] as number) + (y[i] as number) / rows
  const rest = y.map((value, i) => value - (bias[i % columns] as number))
  const solution = solve(gram(x, rows), rest, rows)
  const weight = new Float32Array(hidden * columns)
  for (let r = 0; r < rows; r++) {
    for (let h = 0; h < hidden; h++) {
      const factor = x[r * hidden + h] as number
      for (let c = 0; c < columns; c++)
        weight[h * columns + c] = (weight[h * columns + c] as number) + factor * (solution[r * columns + c] as number)
    }
  }
  return { weight, bias }
}

/** x·xᵀ with the ridge on its diagonal. */
function gram(x: Float64Array, rows: number): Float64Array {
  const width = x.length / rows
  const out = new Float64Array(rows * rows)
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < rows; j++)
      for (let k = 0; k < width; k++) out[i * rows + j]! += (x[i * width + k] as number) * (x[j * width + k] as number)
  let trace = 0
  for (let i = 0; i < rows; i++) trace += out[i * rows + i] as number
  for (let i = 0; i < rows; i++) out[i * rows + i]! += (ridge * trace) / rows
  return out
}

/** Solves a·s = b for a symmetric positive definite a [n, n] by Cholesky decomposition (Golub & Van Loan, section 4.2). */
function solve(a: Float64Array, b: Float64Array, n: number): Float64Array {
  const l = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i * n + j] as number
      for (let k = 0; k < j; k++) sum -= (l[i * n + k] as number) * (l[j * n + k] as number)
      l[i * n + j] = i === j ? Math.sqrt(sum) : sum / (l[j * n + j] as number)
    }
  }
  const columns = b.length / n
  const s = Float64Array.from(b)
  const eliminate = (i: number, j: number, factor: number): void => {
    for (let c = 0; c < columns; c++) s[i * columns + c]! -= factor * (s[j * columns + c] as number)
  }
  const divide = (i: number): void => {
    for (let c = 0; c < columns; c++) s[i * columns + c]! /= l[i * n + i] as number
  }
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++) eliminate(i, j, l[i * n + j] as number)
    divide(i)
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let j = i + 1; j < n; j++) eliminate(i, j, l[j * n + i] as number)
    divide(i)
  }
  return s
}
