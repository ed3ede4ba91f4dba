// Things that the story needs at hand.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

export const BLUEPRINT = join(import.meta.dirname, '../../fixtures/datasets/blueprint/train')

/** A LoRA in kohya's convention with a tensor of which nobody knows what it is for. */
export function writeBadLora(folder) {
  const module = 'lora_unet_double_blocks_0_img_attn_proj'
  const shapes = {
    [`${module}.lora_down.weight`]: [2, 192], // as the starter has it
    [`${module}.lora_up.weight`]: [192, 2],
    'nobody_knows.weight': [2, 2],
  }
  const header = {}
  let bytes = 0
  for (const [name, shape] of Object.entries(shapes)) {
    const start = bytes
    bytes += 4 * shape[0] * shape[1]
    header[name] = { dtype: 'F32', shape, data_offsets: [start, bytes] }
  }
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  const values = new Float32Array(bytes / 4).fill(0.5)
  const path = join(folder, 'for-another-model.safetensors')
  writeFileSync(path, Buffer.concat([length, text, Buffer.from(values.buffer)]))
  return path
}

/** The names that stand in a zip's directory. */
export function namesInZip(bytes) {
  const names = []
  const SIGNATURE = 0x02014b50
  for (let at = 0; at + 46 <= bytes.length; at += 1) {
    if (bytes.readUInt32LE(at) !== SIGNATURE) continue
    names.push(bytes.toString('utf8', at + 46, at + 46 + bytes.readUInt16LE(at + 28)))
  }
  return names
}
