// Sends a form with its files and tells how much has gone; `fetch` cannot tell.

import { refusal } from '@/api/client'

export function upload<T>(path: string, form: FormData, tell: (percent: number) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open('POST', path)
    request.responseType = 'json'
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) tell((100 * event.loaded) / event.total)
    }
    request.onload = () => {
      if (request.status < 300) resolve(request.response as T)
      else reject(refusal(request.status, request.response))
    }
    request.onerror = () => {
      reject(new TypeError('network'))
    }
    request.send(form)
  })
}
